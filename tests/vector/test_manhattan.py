import numpy as np
import pytest
import shapely

from eal_icnet_jax.vector import outlines
from eal_icnet_jax.vector.manhattan import to_manhattan
from tests.vector.sample_masks import blobs


def is_manhattan(polygon) -> bool:
    """Return whether all edges are horizontal or vertical."""
    rings = (polygon.exterior, *polygon.interiors)
    return all((np.diff(ring.coords, axis=0) == 0).any(1).all() for ring in rings)


@pytest.mark.parametrize("seed", range(4))
def test_all_edges_are_horizontal_or_vertical(seed):
    mask = blobs(seed)
    polygons = outlines.trace(mask)
    exact = [to_manhattan(polygon, 0) for polygon in polygons]
    assert all(map(is_manhattan, exact))
    assert sum(polygon.area for polygon in exact) == mask.sum()
    straight = [to_manhattan(polygon, 2) for polygon in polygons]
    assert all(map(is_manhattan, straight))
    assert shapely.get_num_coordinates(straight).sum() < 0.7 * (
        shapely.get_num_coordinates(exact).sum()
    )


def test_steps_and_bumps_of_a_wire_are_straightened():
    mask = np.zeros((30, 80), bool)
    mask[10:16, 5:40], mask[11:17, 40:75] = True, True
    mask[9, 20:22] = True  # a bump
    mask[17:25, 50:52] = True  # as narrow as the bump, but a wire by its length
    (polygon,) = outlines.trace(mask)
    straight = to_manhattan(polygon, 2)
    left, top, right, bottom = straight.bounds
    assert (left, right, bottom) == (5, 75, 25) and 10 < top < 11
    assert len(straight.exterior.coords) - 1 == 8
    assert straight.hausdorff_distance(to_manhattan(polygon, 0)) <= 1.5
