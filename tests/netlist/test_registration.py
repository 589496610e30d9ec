"""A mask is found over another one of the same metal, however it lies."""

import cv2
import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.netlist.registration import register
from eal_icnet_jax.system.errors import UserError


@pytest.fixture(scope="module")
def metal():
    """Drawn metal, `[700, 900]`."""
    return die.draw_field(die.Die(700, 900, seed=5), 0)["metal"] > 0


def difference(reference, mask, registration):
    warped, inside = registration.apply(mask, reference.shape)
    assert inside.mean() > 0.5
    inner = cv2.erode(inside.astype(np.uint8), np.ones((5, 5))) > 0
    return np.mean((warped != reference)[inner])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_every_orientation_is_found(metal, turns, mirrored):
    part = metal[50:650, 100:880]
    mask = np.rot90(part, -turns)
    mask = mask[:, ::-1] if mirrored else mask
    found = register(metal, mask)
    assert found.mirrored == mirrored
    assert difference(metal, mask, found) < 0.002
    assert found.agreement > 0.99


@pytest.mark.parametrize(("angle", "scale"), [(0.4, 1.0), (-0.3, 1.01), (0.0, 0.99)])
def test_small_rotations_and_scales_are_found(metal, angle, scale):
    matrix = cv2.getRotationMatrix2D((450, 350), angle, scale)
    matrix[:, 2] += 13, -7
    mask = cv2.warpAffine(metal.astype(np.uint8), matrix, (920, 720)) > 0
    found = register(metal, mask)
    assert difference(metal, mask, found) < 0.02
    # The corners lie where they should, to within a pixel.
    corners = np.array([(100, 100, 1), (800, 600, 1)])
    assert np.abs(corners @ found.matrix.T - corners @ matrix.T).max() < 1


def test_masks_of_other_metal_are_refused(metal):
    other = die.draw_field(die.Die(700, 900, seed=8), 0)["metal"] > 0
    with pytest.raises(UserError, match="they do not show the same layer"):
        register(metal, other)
    with pytest.raises(UserError, match="has no metal"):
        register(metal, np.zeros((700, 900), bool))
