import numpy as np
import pytest
import shapely

from eal_icnet_jax.imaging.regions import connected_regions
from eal_icnet_jax.vector import outlines
from tests.vector.sample_masks import blobs


def rasterize(polygons, shape) -> np.ndarray:
    """Return the pixels whose centres lie in polygons."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(shapely.union_all(polygons), x.ravel(), y.ravel()).reshape(shape)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [7, 64, 4096])
def test_outlines_enclose_exactly_their_pixels_for_every_block_size(seed, block):
    mask = blobs(seed)
    polygons = outlines.trace(mask, block)
    assert shapely.is_valid(polygons).all()
    assert len(polygons) == len(connected_regions(mask)[1]) - 1
    np.testing.assert_array_equal(rasterize(polygons, mask.shape), mask)
    holes = sum(len(polygon.interiors) for polygon in polygons)
    assert sum(p.area for p in polygons) == mask.sum() - len(polygons) / 2 + holes / 2
    assert shapely.bounds(polygons).min() >= 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (8, 8), (9, 9)])
def test_empty_and_full_masks_are_traced(shape):
    assert outlines.trace(np.zeros(shape, bool), 4) == []
    (polygon,) = outlines.trace(np.ones(shape, bool), 4)
    assert polygon.area == np.prod(shape) - 0.5 and polygon.bounds == (0, 0, *shape[::-1])


@pytest.mark.parametrize("tolerance", [0.3, 0.5, 2])
def test_simplification_stays_within_the_tolerance(tolerance):
    polygons = outlines.trace(blobs(0))
    simplified = outlines.simplify(polygons, tolerance)
    for before, after in zip(polygons, simplified, strict=True):
        assert before.boundary.hausdorff_distance(after.boundary) <= tolerance + 1e-9
        assert shapely.get_num_coordinates(after) <= shapely.get_num_coordinates(before)
    if tolerance <= 0.5:  # regions stay apart
        assert len(shapely.get_parts(shapely.union_all(simplified))) == len(polygons)
