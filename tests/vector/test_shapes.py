import cv2
import numpy as np
import pytest

from eal_icnet_jax.vector import outlines, shapes
from eal_icnet_jax.vector.layout_options import ShapeOptions
from tests.vector.sample_masks import blobs


def test_vias_become_circles_boxes_or_outlines():
    mask = np.zeros((60, 60), np.uint8)
    cv2.circle(mask, (20, 30), 9, 1, cv2.FILLED)
    mask[40:50, 40:52] = 1
    polygons = outlines.trace(mask)
    disc, square = shapes.draw_vias(polygons, "circle")
    assert disc.area == pytest.approx(polygons[0].area) and square.area == pytest.approx(119.5)
    assert disc.centroid.coords[0] == pytest.approx((20.5, 30.5))
    boxes = shapes.draw_vias(polygons, "box")
    assert [box.bounds for box in boxes] == [polygon.bounds for polygon in polygons]
    assert boxes[1].area == 120
    assert shapes.draw_vias(polygons, "outline") == polygons


def test_shapes_below_the_smallest_area_are_left_out():
    mask = blobs(0)
    options = ShapeOptions(tolerance=0, min_area=20)
    polygons = shapes.layout_polygons(mask, "metal", options)
    assert 0 < len(polygons) < len(outlines.trace(mask))
    assert min(polygon.area for polygon in polygons) >= 20
