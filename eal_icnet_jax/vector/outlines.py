"""Outlines of a mask's regions as polygons with holes."""

from collections.abc import Sequence
from typing import Any

import contourpy
import numpy as np
import shapely

from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.vector.pixel_rings import PixelRings

Mask = np.ndarray | MosaicMask
"""A mask `[H, W]`, non-zero is inside, in memory or read part by part."""

BLOCK = 4096
"""Default side in pixels of the blocks in which a mask is traced."""


def _block_starts(length: int, block: int) -> range:
    """Return where blocks begin, each of which shares a line of pixels with the next."""
    return range(0, max(length - 1, 1), block)


def trace(mask: Mask, block: int = BLOCK) -> list[shapely.Polygon]:
    """Return the 8-connected regions of a mask as polygons with holes.

    Args:
      mask: `[H, W]`, non-zero is inside.
      block: side in pixels of the part that is read at once. The polygons do not depend on it.

    Returns:
      Polygons in pixels, ordered by their uppermost, then leftmost point. The image's upper left
      corner is (0, 0) and its lower right (W, H). They run through the middles of pixel edges, so
      that corners are cut by half a pixel, and no two outlines meet; see `pixel_counts`.
    """
    height, width = mask.shape
    complete: list[shapely.Polygon] = []
    cut: list[shapely.Polygon] = []
    for top in _block_starts(height, block):
        bottom = min(top + block, height - 1)
        for left in _block_starts(width, block):
            right = min(left + block, width - 1)
            # Only the image's own borders are padded. Neighbouring blocks meet in the middle of
            # the line of pixels that they share.
            borders = ((top == 0, bottom == height - 1), (left == 0, right == width - 1))
            part = np.asarray(mask[top : bottom + 1, left : right + 1]) != 0
            part = np.pad(part, np.array(borders, int))
            seams = (
                left + 0.5 if left else np.nan,
                top + 0.5 if top else np.nan,
                right + 0.5 if right < width - 1 else np.nan,
                bottom + 0.5 if bottom < height - 1 else np.nan,
            )
            polygons = _contours(part, (left + 0.5 - (left == 0), top + 0.5 - (top == 0)))
            is_cut = (shapely.bounds(polygons) == seams).any(1)
            complete.extend(polygons[~is_cut])
            cut.extend(polygons[is_cut])
    if cut:
        joined = shapely.get_parts(shapely.union_all(cut))
        complete.extend(joined[shapely.get_type_id(joined) == shapely.GeometryType.POLYGON])
    return [*PixelRings.from_midpoints(complete).canonical().midpoints()] if complete else []


def _contours(mask: np.ndarray, origin: tuple[float, float]) -> np.ndarray:
    """Return the regions `[N]` of a bool mask `[H, W]` whose first pixel's centre is `origin`."""
    if min(mask.shape) < 2 or not mask.any():
        return np.empty(0, object)
    generator = contourpy.contour_generator(
        z=mask.astype(np.float32), fill_type="ChunkCombinedOffsetOffset"
    )
    # A level just below 0.5 joins diagonal neighbours.
    parts: Any = generator.filled(0.4999, 2)
    points, *offsets = (part for (part,) in parts)
    return shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        np.rint(2 * points) / 2 + origin,
        tuple(part.astype(np.int64) for part in offsets),
    )


def pixel_counts(polygons: Sequence[shapely.Polygon]) -> np.ndarray:
    """Return the number of pixels `[N]` of each region that `trace` returned."""
    # A closed outline turns by four corners more one way than the other, and each of its corners
    # cuts an eighth of a pixel off, or adds it.
    rings = 1 - shapely.get_num_interior_rings(np.array(polygons, object))
    return shapely.area(np.array(polygons, object)) + rings / 2
