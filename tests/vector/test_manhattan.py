import hypothesis
import numpy as np
import pytest
import shapely
from hypothesis import strategies

from eal_icnet_jax.vector import outlines
from eal_icnet_jax.vector.manhattan import to_manhattan
from tests.vector.polygon_checks import (
    assert_one_sound_polygon_per_region,
    assert_same_in_small_parts,
    is_manhattan,
    rings_of,
)
from tests.vector.sample_masks import QUICK, blobs, masks


def corner_contacts(mask: np.ndarray) -> int:
    """Return how many pairs of pixels touch at a corner only."""
    a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
    return np.count_nonzero((a == d) & (b == c) & (a != b))


@pytest.mark.parametrize("seed", range(4))
def test_all_edges_are_horizontal_or_vertical(seed):
    mask = blobs(seed)
    rings = outlines.trace(mask)
    exact = to_manhattan(rings, 0)
    assert all(map(is_manhattan, exact))
    assert shapely.area(exact).sum() == mask.sum() + corner_contacts(mask) / 8
    straight = to_manhattan(rings, 2)
    assert all(map(is_manhattan, straight))
    assert shapely.get_num_coordinates(straight).sum() < 0.8 * (
        shapely.get_num_coordinates(exact).sum()
    )


@pytest.mark.parametrize("jog", [0, 0.5, 1, 2, 5, 100])
@hypothesis.given(masks(), strategies.integers(1, 9))
@QUICK
def test_straight_polygons_do_not_meet(jog, mask, rows):
    polygons = to_manhattan(outlines.trace(mask), jog)
    assert all(map(is_manhattan, polygons))
    assert_one_sound_polygon_per_region(polygons, mask)
    assert rings_of(to_manhattan(outlines.trace(mask, rows), jog)) == rings_of(polygons)


@pytest.mark.parametrize("jog", [0, 2])
def test_polygons_do_not_depend_on_how_many_are_straightened_at_once(jog, monkeypatch):
    rings = outlines.trace(blobs(0))
    assert_same_in_small_parts(lambda: to_manhattan(rings, jog), monkeypatch)


@pytest.mark.parametrize("jog", [1, 2, 3, 10])
def test_wires_one_pixel_apart_are_not_shorted(jog):
    """A step of both wires, and a pixel in a notch that would be closed."""
    mask = np.zeros((24, 60), bool)
    mask[4:8, 2:30], mask[5:9, 30:58] = True, True
    mask[9:13, 2:29], mask[10:14, 29:58] = True, True
    mask[15:22, 2:58] = True
    mask[15:18, 20:23] = False
    mask[16, 21] = True
    polygons = to_manhattan(outlines.trace(mask), jog)
    assert_one_sound_polygon_per_region(polygons, mask)


def test_steps_and_bumps_of_a_wire_are_straightened():
    mask = np.zeros((30, 80), bool)
    mask[10:16, 5:40], mask[11:17, 40:75] = True, True
    mask[9, 20:22] = True  # a bump
    mask[17:25, 50:52] = True  # as narrow as the bump, but a wire by its length
    rings = outlines.trace(mask)
    (straight,) = to_manhattan(rings, 2)
    left, top, right, bottom = straight.bounds
    assert (left, right, bottom) == (5, 75, 25) and 10 < top < 11
    assert len(straight.exterior.coords) - 1 == 8
    assert straight.hausdorff_distance(to_manhattan(rings, 0)[0]) <= 1.5
