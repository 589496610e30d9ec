import itertools

import hypothesis
import numpy as np
import pytest
import shapely
from hypothesis import strategies

from eal_icnet_jax.imaging.regions import connected_regions
from eal_icnet_jax.vector import outlines
from tests.vector.polygon_checks import assert_one_sound_polygon_per_region, rings_of
from tests.vector.sample_masks import QUICK, blobs, masks


def rasterize(polygons, shape) -> np.ndarray:
    """Return the pixels whose centres lie in polygons."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(shapely.union_all(polygons), x.ravel(), y.ravel()).reshape(shape)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rows", [7, 64, None])
def test_outlines_enclose_exactly_their_pixels_however_many_rows_are_read(seed, rows):
    mask = blobs(seed)
    rings = outlines.trace(mask, rows)
    polygons = rings.midpoints()
    np.testing.assert_array_equal(rasterize(polygons, mask.shape), mask)
    sizes = np.bincount(connected_regions(mask)[0][mask])[1:]
    np.testing.assert_array_equal(np.sort(rings.pixel_counts()), np.sort(sizes))
    assert shapely.bounds(polygons).min() >= 0


@hypothesis.given(masks(), strategies.integers(1, 9))
@QUICK
def test_outlines_do_not_depend_on_the_rows_read_at_once(mask, rows):
    polygons = outlines.trace(mask).midpoints()
    assert_one_sound_polygon_per_region(polygons, mask)
    assert rings_of(outlines.trace(mask, rows).midpoints()) == rings_of(polygons)


@hypothesis.given(masks())
@QUICK
def test_rings_have_a_canonical_order(mask):
    rings = outlines.trace(mask)
    firsts = []
    for first, last in itertools.pairwise(rings.starts):
        corners = rings.corners[first:last].tolist()
        assert min((y, x) for x, y in corners) == (corners[0][1], corners[0][0])
        assert corners[1][1] == corners[0][1] and corners[1][0] > corners[0][0]
        firsts.append((corners[0][1], corners[0][0]))
    outer = [firsts[k] for k in rings.polygons[:-1]]
    assert outer == sorted(outer)
    for first, last in itertools.pairwise(rings.polygons):
        assert firsts[first + 1 : last] == sorted(firsts[first + 1 : last])


@hypothesis.given(masks(), strategies.integers(1, 20))
@QUICK
def test_parts_and_selections_hold_their_polygons(mask, corners):
    rings = outlines.trace(mask)
    whole = rings_of(rings.midpoints())
    parts = [*rings.parts(corners)] if len(rings) else []
    assert [ring for part in parts for ring in rings_of(part.midpoints())] == whole
    for part in parts:  # without its first polygon, which may be larger
        assert len(part.corners) - part.starts[part.polygons[1]] < corners
    is_kept = np.arange(len(rings)) % 3 == 1
    assert rings_of(rings.selected(is_kept).midpoints()) == whole[1::3]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (8, 8), (9, 9)])
def test_empty_and_full_masks_are_traced(shape):
    assert len(outlines.trace(np.zeros(shape, bool), 4)) == 0
    (polygon,) = outlines.trace(np.ones(shape, bool), 4).midpoints()
    assert polygon.area == np.prod(shape) - 0.5 and polygon.bounds == (0, 0, *shape[::-1])
