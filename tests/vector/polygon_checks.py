"""What must hold for the polygons of every mask."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import shapely

from eal_icnet_jax.vector.pixel_rings import PixelRings
from tests.vector.sample_masks import count_regions_and_holes


def assert_one_sound_polygon_per_region(polygons: Sequence[shapely.Polygon], mask: np.ndarray):
    """Polygons are valid and apart, no rings of one touch, and no hole or region is lost."""
    array = np.array(polygons, object)
    assert shapely.is_valid(array).all()
    assert shapely.is_simple(shapely.boundary(array)).all(), "two rings of a polygon touch"
    holes = shapely.get_num_interior_rings(array).sum()
    assert (len(polygons), holes) == count_regions_and_holes(mask)
    for first, second in itertools.combinations(polygons, 2):
        assert first.distance(second) > 0


def rings_of(polygons: Sequence[shapely.Polygon]) -> list[list]:
    """Return the vertices of each ring of each polygon, to compare them exactly."""
    return [shapely.get_coordinates(shapely.get_rings(p)).tolist() for p in polygons]


def assert_same_in_small_parts(polygons: Callable[[], Sequence], monkeypatch: pytest.MonkeyPatch):
    """Polygons do not depend on how many corners are worked on at once."""
    expected = rings_of(polygons())
    for corners in (1, 50):
        monkeypatch.setattr(PixelRings.parts, "__defaults__", (corners,))
        assert rings_of(polygons()) == expected


def corners_of(polygon: shapely.Polygon) -> set[tuple[float, float]]:
    """Return the vertices of a polygon. None of its rings has one twice."""
    rings = [ring.coords[:-1] for ring in (polygon.exterior, *polygon.interiors)]
    corners = {corner for ring in rings for corner in ring}
    assert len(corners) == sum(map(len, rings))
    return corners


def is_manhattan(polygon: shapely.Polygon) -> bool:
    """Return whether all edges are horizontal or vertical."""
    rings = (polygon.exterior, *polygon.interiors)
    return all((np.diff(ring.coords, axis=0) == 0).any(1).all() for ring in rings)
