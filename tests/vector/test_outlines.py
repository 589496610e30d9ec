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
@pytest.mark.parametrize("block", [7, 64, 4096])
def test_outlines_enclose_exactly_their_pixels_for_every_block_size(seed, block):
    mask = blobs(seed)
    polygons = outlines.trace(mask, block)
    np.testing.assert_array_equal(rasterize(polygons, mask.shape), mask)
    sizes = np.bincount(connected_regions(mask)[0][mask])[1:]
    np.testing.assert_array_equal(np.sort(outlines.pixel_counts(polygons)), np.sort(sizes))
    assert shapely.bounds(polygons).min() >= 0


@hypothesis.given(masks(), strategies.integers(1, 9))
@QUICK
def test_outlines_do_not_depend_on_blocks(mask, block):
    polygons = outlines.trace(mask)
    assert_one_sound_polygon_per_region(polygons, mask)
    assert rings_of(outlines.trace(mask, block)) == rings_of(polygons)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (8, 8), (9, 9)])
def test_empty_and_full_masks_are_traced(shape):
    assert outlines.trace(np.zeros(shape, bool), 4) == []
    (polygon,) = outlines.trace(np.ones(shape, bool), 4)
    assert polygon.area == np.prod(shape) - 0.5 and polygon.bounds == (0, 0, *shape[::-1])
