"""Outlines of a mask's regions as polygons with holes."""

import itertools
from collections.abc import Iterator, Sequence

import contourpy
import numpy as np
import shapely

from eal_icnet_jax.imaging.masks import MosaicMask

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
      Polygons in pixels. The image's upper left corner is (0, 0) and its lower right (W, H). They
      run through the middles of pixel edges, so that corners are cut by half a pixel: the area of
      a region is its pixel count, less half a pixel, and plus half a pixel for each hole.
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
                left and left + 0.5,
                top and top + 0.5,
                right < width - 1 and right + 0.5,
                bottom < height - 1 and bottom + 0.5,
            )
            origin = left + 0.5 - (left == 0), top + 0.5 - (top == 0)
            for polygon in _contours(part, origin):
                is_cut = any(a and a == b for a, b in zip(seams, polygon.bounds, strict=True))
                (cut if is_cut else complete).append(polygon)
    joined = shapely.union_all(cut) if cut else shapely.GeometryCollection()
    return complete + [part for part in shapely.get_parts(joined) if part.geom_type == "Polygon"]


def _contours(mask: np.ndarray, origin: tuple[float, float]) -> Iterator[shapely.Polygon]:
    """Yield the regions of a bool mask `[H, W]` whose first pixel has its centre at `origin`."""
    if min(mask.shape) < 2 or not mask.any():
        return
    generator = contourpy.contour_generator(z=mask.astype(np.float32), fill_type="OuterOffset")
    # A level just below 0.5 joins diagonal neighbours.
    for points, offsets in zip(*generator.filled(0.4999, 2), strict=True):
        points = np.rint(2 * points) / 2 + origin
        outer, *holes = (points[a:b] for a, b in itertools.pairwise(offsets))
        yield shapely.Polygon(outer, holes)


def simplify(polygons: Sequence[shapely.Polygon], tolerance: float) -> list[shapely.Polygon]:
    """Return the polygons with fewer vertices.

    Args:
      polygons: outlines as `trace` returns them.
      tolerance: largest distance in pixels between an outline before and after. A polygon that
        would vanish or cross itself is not changed.
    """
    out = []
    for polygon in polygons:
        # As lines, whose ends stay: shapely may move the end of a ring beyond the tolerance.
        rings = [shapely.LineString(r.coords) for r in (polygon.exterior, *polygon.interiors)]
        rings = [ring.coords for ring in shapely.simplify(rings, tolerance)]
        fewer = shapely.Polygon(rings[0], rings[1:]) if min(map(len, rings)) > 3 else None
        out.append(fewer if fewer and fewer.is_valid else polygon)
    return out
