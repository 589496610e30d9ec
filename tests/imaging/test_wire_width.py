"""The width of wires in masks."""

import numpy as np
import pytest

from eal_icnet_jax.imaging.wire_width import median_wire_width


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8, 15, 40, 80])
@pytest.mark.parametrize("gap", [3, 30])
def test_straight_wires_have_their_width(width, gap):
    mask = np.zeros((400, 600), bool)
    for top in range(gap, 400 - width - gap, width + gap):
        mask[top : top + width] = True
    assert median_wire_width(mask) == pytest.approx(width, abs=1)
    assert median_wire_width(mask.T) == pytest.approx(width, abs=1)


def test_a_mask_without_wires_has_no_width():
    assert median_wire_width(np.zeros((40, 40), bool)) == 0
    assert median_wire_width(np.ones((40, 40), bool)) == 0
