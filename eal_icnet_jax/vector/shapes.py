"""Masks to the polygons of a layout."""

import numpy as np
import shapely

from eal_icnet_jax.vector import outlines
from eal_icnet_jax.vector.layout_options import ShapeOptions
from eal_icnet_jax.vector.manhattan import to_manhattan
from eal_icnet_jax.vector.pixel_rings import PixelRings
from eal_icnet_jax.vector.separation import keep_apart
from eal_icnet_jax.vector.simplification import simplify

CIRCLE_SIDES = 32

FILLED = 0.65
"""Least part of its box that a via fills. What fills less, such as two vias that meet at a corner,
keeps its outline, because its box or circle could reach metal that it does not touch."""


def draw_vias(rings: PixelRings, vias: np.ndarray, shape: str) -> list[shapely.Polygon]:
    """Return a circle or a box for each via, which may touch others.

    Args:
      rings: of the vias, as `outlines.trace` returns them.
      vias: `[P]`, their polygons through the middles of pixel edges.
      shape: `circle` of the area of the via's pixels, or `box` around them.
    """
    if shape == "box":
        return list(shapely.box(*shapely.bounds(vias).T))
    # The polygon that stands for a circle has fewer than its area, so the radius is enlarged.
    half_angle = np.pi / CIRCLE_SIDES
    correction = np.sqrt(half_angle / (np.sin(half_angle) * np.cos(half_angle)))
    radii = np.sqrt(rings.pixel_counts() / np.pi) * correction
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
    rings = outlines.trace(mask)
    if options.min_area:
        rings = rings.selected(rings.pixel_counts() >= options.min_area)
    if options.manhattan:
        shapes = to_manhattan(rings, options.jog)
    else:
        shapes = simplify(rings, options.tolerance)
    if kind == "via" and options.via_shape != "outline" and shapes:
        vias = rings.midpoints()
        drawn = draw_vias(rings, vias, options.via_shape)
        fill = shapely.area(vias) / shapely.area(shapely.envelope(vias))
        drawn = [via if part >= FILLED else shape
                 for via, shape, part in zip(drawn, shapes, fill, strict=True)]  # fmt: skip
        return keep_apart(drawn, shapes)
    return shapes
