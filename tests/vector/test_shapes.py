import cv2
import hypothesis
import numpy as np
import pytest

from eal_icnet_jax.vector import outlines, shapes
from eal_icnet_jax.vector.layout_options import ShapeOptions
from tests.vector.polygon_checks import (
    assert_one_sound_polygon_per_region,
    corners_of,
    is_manhattan,
)
from tests.vector.sample_masks import QUICK, blobs, count_regions_and_holes, masks


def via_shapes(mask, shape, **options):
    return shapes.layout_polygons(mask, "via", ShapeOptions(via_shape=shape, **options))


def test_vias_become_circles_boxes_or_outlines():
    mask = np.zeros((60, 60), np.uint8)
    cv2.circle(mask, (20, 30), 9, 1, cv2.FILLED)
    mask[40:50, 40:52] = 1
    mask[5, 5] = 1
    pixel, disc, square = via_shapes(mask, "circle")
    areas = np.count_nonzero(mask[20:40, 10:31]), 120, 1
    assert [disc.area, square.area, pixel.area] == pytest.approx(areas)
    assert disc.centroid.coords[0] == pytest.approx((20.5, 30.5))
    boxes = via_shapes(mask, "box")
    assert [box.bounds for box in boxes] == [p.bounds for p in outlines.trace(mask).midpoints()]
    assert boxes[2].area == 120
    pixel, disc, square = via_shapes(mask, "outline")
    assert pixel.area == 1 and square.area == 120 and 8 < len(corners_of(disc)) < 32
    assert all(map(is_manhattan, via_shapes(mask, "outline", manhattan=True)))


@pytest.mark.parametrize(("shape", "sides"), [("circle", 32), ("box", 4)])
def test_vias_that_would_be_merged_keep_their_outlines(shape, sides):
    """A via between the arms of another, and one far away."""
    mask = np.zeros((40, 60), bool)
    mask[4:20, 4:6], mask[18:20, 4:20], mask[4:20, 18:20] = True, True, True
    mask[5:17, 7:17] = True
    mask[30:36, 40:46] = True
    polygons = via_shapes(mask, shape)
    assert_one_sound_polygon_per_region(polygons, mask)
    assert [len(corners_of(polygon)) for polygon in polygons] == [8, 4, sides]


@pytest.mark.parametrize("manhattan", [False, True])
@pytest.mark.parametrize("shape", ["circle", "box"])
@hypothesis.given(masks())
@QUICK
def test_no_via_is_lost_or_merged(shape, manhattan, mask):
    polygons = via_shapes(mask, shape, manhattan=manhattan)
    assert len(polygons) == count_regions_and_holes(mask)[0]
    for k, polygon in enumerate(polygons):
        assert polygon.is_valid
        assert all(polygon.distance(other) > 0 for other in polygons[:k])


def test_regions_of_fewer_pixels_are_left_out():
    mask = np.pad(np.ones((4, 5), bool), 3)
    for min_area, count in ((20, 1), (20.5, 0)):
        options = ShapeOptions(min_area=min_area)
        assert len(shapes.layout_polygons(mask, "metal", options)) == count
        assert len(shapes.layout_polygons(mask, "via", options)) == count
    polygons = shapes.layout_polygons(blobs(0), "metal", ShapeOptions(tolerance=0, min_area=20))
    assert 0 < len(polygons) < len(outlines.trace(blobs(0)))
