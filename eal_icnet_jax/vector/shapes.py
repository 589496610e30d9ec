"""Masks to the polygons of a layout."""

from collections.abc import Sequence

import numpy as np
import shapely

from eal_icnet_jax.vector import outlines
from eal_icnet_jax.vector.layout_options import ShapeOptions
from eal_icnet_jax.vector.manhattan import to_manhattan
from eal_icnet_jax.vector.separation import keep_apart
from eal_icnet_jax.vector.simplification import simplify

CIRCLE_SIDES = 32

FILLED = 0.65
"""Least part of its box that a via fills. What fills less, such as two vias that meet at a corner,
keeps its outline, because its box or circle could reach metal that it does not touch."""


def draw_vias(polygons: Sequence[shapely.Polygon], shape: str) -> list[shapely.Polygon]:
    """Return a circle or a box for each via, which may touch others.

    Args:
      polygons: outlines as `outlines.trace` returns them.
      shape: `circle` of the area of the via's pixels, or `box` around them.
    """
    vias = np.array(polygons, object)
    if shape == "box":
        return list(shapely.box(*shapely.bounds(vias).T))
    # The polygon that stands for a circle has fewer than its area, so the radius is enlarged.
    half_angle = np.pi / CIRCLE_SIDES
    correction = np.sqrt(half_angle / (np.sin(half_angle) * np.cos(half_angle)))
    radii = np.sqrt(outlines.pixel_counts(polygons) / np.pi) * correction
    return list(shapely.buffer(shapely.centroid(vias), radii, quad_segs=CIRCLE_SIDES // 4))


def layout_polygons(mask: outlines.Mask, kind: str, options: ShapeOptions) -> list[shapely.Polygon]:
    """Return the shapes of a mask, in pixels with the origin at the upper left corner.

    No two shapes meet. A via whose circle or box would meet another shape keeps its outline, and so
    does one that hardly fills its box.

    Args:
      mask: `[H, W]`, non-zero is inside.
      kind: `metal` or `via`.
      options: how outlines become shapes.
    """
    polygons = outlines.trace(mask)
    if options.min_area and polygons:
        is_kept = outlines.pixel_counts(polygons) >= options.min_area
        polygons = [polygon for polygon, kept in zip(polygons, is_kept, strict=True) if kept]
    if options.manhattan:
        shapes = to_manhattan(polygons, options.jog)
    else:
        shapes = simplify(polygons, options.tolerance)
    if kind == "via" and options.via_shape != "outline" and polygons:
        drawn = draw_vias(polygons, options.via_shape)
        fill = shapely.area(np.array(polygons, object)) / shapely.area(shapely.envelope(polygons))
        drawn = [via if part >= FILLED else shape
                 for via, shape, part in zip(drawn, shapes, fill, strict=True)]  # fmt: skip
        return keep_apart(drawn, shapes)
    return shapes
