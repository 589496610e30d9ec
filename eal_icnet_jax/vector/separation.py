"""Polygons that must not touch."""

from collections.abc import Sequence

import numpy as np
import shapely

GAP = 0.05
"""Smallest distance in pixels between two polygons: several steps of a layout's grid."""


def are_sound(polygons: np.ndarray) -> np.ndarray:
    """Return whether each polygon `[N]` is valid, and no two of its rings touch."""
    return shapely.is_valid(polygons) & shapely.is_simple(shapely.boundary(polygons))


def keep_apart(
    polygons: Sequence[shapely.Polygon] | np.ndarray, spare: Sequence[shapely.Polygon] | np.ndarray
) -> list[shapely.Polygon]:
    """Replace polygons until all are sound and at least `GAP` apart.

    Of two that are closer, the one with fewer points is replaced first.

    Args:
      polygons: preferred shapes of regions.
      spare: other shapes of the same regions, for which this holds.

    Returns:
      For each region its polygon or its spare.
    """
    shapes, spares = np.array(polygons, object), np.array(spare, object)
    is_spare = ~are_sound(shapes)
    shapes[is_spare] = spares[is_spare]
    changed = np.arange(len(shapes))
    while len(changed):
        small, large = _close_pairs(shapes, changed)
        is_open = ~(is_spare[small] & is_spare[large])
        small, large = small[is_open], large[is_open]
        changed = np.unique(np.where(is_spare[small], large, small))
        shapes[changed], is_spare[changed] = spares[changed], True
    return list(shapes)


def _close_pairs(shapes: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the polygons that are closer than `GAP` to one of those that changed.

    Args:
      shapes: all polygons `[N]`.
      changed: indices of those that changed.

    Returns:
      Indices of pairs: the polygon with fewer points, and the one with more.
    """
    boxes = shapely.bounds(shapes[changed]) + np.array([-GAP, -GAP, GAP, GAP])
    first, second = shapely.STRtree(shapes).query(shapely.box(*boxes.T))
    pairs = np.sort([changed[first], second], axis=0)
    small, large = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
    sizes = shapely.get_num_coordinates(shapes)
    is_swapped = sizes[small] > sizes[large]
    small, large = np.where(is_swapped, large, small), np.where(is_swapped, small, large)
    # One small polygon after another is compared with the index of the large one.
    shapely.prepare(shapes[large])
    is_close = shapely.dwithin(shapes[large], shapes[small], GAP)
    shapely.destroy_prepared(shapes[large])
    return small[is_close], large[is_close]
