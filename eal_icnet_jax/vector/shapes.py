"""Masks to the polygons of a layout."""

from collections.abc import Sequence

import numpy as np
import shapely

from eal_icnet_jax.vector import outlines
from eal_icnet_jax.vector.layout_options import ShapeOptions
from eal_icnet_jax.vector.manhattan import to_manhattan

CIRCLE_SIDES = 32


def draw_vias(polygons: Sequence[shapely.Polygon], shape: str) -> list[shapely.Polygon]:
    """Return the outlines of vias in another shape.

    Args:
      polygons: outlines as `outlines.trace` returns them.
      shape: `circle` of equal area, `box` around the outline, or `outline` for no change.
    """
    if shape == "outline" or not polygons:
        return list(polygons)
    vias = np.array(polygons, object)
    if shape == "box":
        return list(shapely.box(*shapely.bounds(vias).T))
    # The polygon that stands for a circle has fewer than its area, so the radius is enlarged.
    half_angle = np.pi / CIRCLE_SIDES
    correction = np.sqrt(half_angle / (np.sin(half_angle) * np.cos(half_angle)))
    radii = np.sqrt(shapely.area(vias) / np.pi) * correction
    return list(shapely.buffer(shapely.centroid(vias), radii, quad_segs=CIRCLE_SIDES // 4))


def layout_polygons(mask: outlines.Mask, kind: str, options: ShapeOptions) -> list[shapely.Polygon]:
    """Return the shapes of a mask, in pixels with the origin at the upper left corner.

    Args:
      mask: `[H, W]`, non-zero is inside.
      kind: `metal` or `via`.
      options: how outlines become shapes.
    """
    polygons = [polygon for polygon in outlines.trace(mask) if polygon.area >= options.min_area]
    if kind == "via":
        return draw_vias(polygons, options.via_shape)
    if options.manhattan:
        return [to_manhattan(polygon, options.jog) for polygon in polygons]
    return outlines.simplify(polygons, options.tolerance)
