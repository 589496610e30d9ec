"""Outlines of a mask's regions."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.imaging.mosaics import CHUNK, slices_of
from eal_icnet_jax.vector.pixel_rings import PixelRings

Mask = np.ndarray | MosaicMask
"""A mask `[H, W]`, non-zero is inside, in memory or read part by part."""

STRIP_PIXELS = 2**24
"""A mask is read in strips of whole rows: as many as have so many pixels, but `CHUNK` at least."""

PART_PIXELS = 2**19
"""Number of pixels in which corners are looked for at once: what a processor's cache holds."""


class _Corners(NamedTuple):
    """Corners of outlines `[N]`, ordered by y, then by x.

    Where two pixels of a mask touch at a corner only, that corner occurs twice: the first ends the
    edge to its left, the second begins the edge to its right.

    x, y: in pixels.
    leads_down: of the two at one place, whether this one begins the edge downwards.
    is_upper: whether the edge to the right is an upper edge of a region: the mask is below it.
    run_start: where a hole begins here, the x at which the row of pixels above, to the right,
      begins without a gap; otherwise -1.
    """

    x: np.ndarray
    y: np.ndarray
    leads_down: np.ndarray
    is_upper: np.ndarray
    run_start: np.ndarray


def trace(mask: Mask, rows: int | None = None) -> PixelRings:
    """Return the edges of pixels around the 8-connected regions of a mask.

    Args:
      mask: `[H, W]`, non-zero is inside.
      rows: number of rows that are read at once; None for those of `STRIP_PIXELS`. The rings do
        not depend on it.

    Returns:
      A polygon for each region, ordered by its uppermost, then leftmost corner, and its holes
      likewise. Each ring begins at that corner and runs to the right from there. The image's upper
      left corner is (0, 0) and its lower right (W, H).
    """
    rows = rows or max(1, STRIP_PIXELS // (mask.shape[1] * CHUNK)) * CHUNK
    parts = [_find_corners(*part) for part in _parts(mask, rows)]
    return _join(_Corners(*(np.concatenate(values) for values in zip(*parts, strict=True))))


def _parts(mask: Mask, rows: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield parts that share a row of pixels, `[h + 1, W + 2]` uint8, and the y below the first.

    The mask is enlarged by a pixel of background on each side.
    """
    height, width = mask.shape
    step = max(1, PART_PIXELS // width)
    strip = np.zeros((min(rows, height) + 1, width + 2), np.uint8)
    for read in slices_of(height, rows):
        count = read.stop - read.start
        strip[1 : count + 1, 1:-1] = np.asarray(mask[read, slice(0, width)]) != 0
        for part in slices_of(count, step):
            yield strip[part.start : part.stop + 1], read.start + part.start
        strip[0] = strip[count]
    strip[1] = 0
    yield strip[:2], height


def _find_corners(part: np.ndarray, top: int) -> _Corners:
    """Return the corners within a part of a mask `[h + 1, W + 2]` whose first inner y is `top`."""
    above, below = part[:-1], part[1:]
    edges = above ^ below
    is_saddle = edges[:, :-1] & edges[:, 1:] & (above[:, :-1] ^ above[:, 1:])
    places = np.flatnonzero(edges[:, :-1] ^ edges[:, 1:] | is_saddle)
    places = np.repeat(places, 1 + is_saddle.ravel()[places])
    y, x = np.divmod(places, edges.shape[1] - 1)
    upper_left, upper_right = above[y, x] != 0, above[y, x + 1] != 0
    lower_left, lower_right = below[y, x] != 0, below[y, x + 1] != 0
    is_second = np.diff(places, prepend=-1) == 0
    run_start = np.full(len(places), -1)
    begins_hole = upper_right & lower_left & ~lower_right
    run_starts = np.flatnonzero(above[:, 1:] > above[:, :-1])
    runs = np.searchsorted(run_starts, places[begins_hole], side="right") - 1
    run_start[begins_hole] = run_starts[runs] % (edges.shape[1] - 1)
    # Both corners at a saddle lie at the pixel of background between their edges.
    return _Corners(x, y + top, is_second ^ upper_left, lower_right, run_start)


def _join(corners: _Corners) -> PixelRings:
    """Return the rings of all corners of a mask."""
    if not len(corners.x):
        return PixelRings(np.empty((0, 2), np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64))
    # In each row, horizontal edges run between the corners 0 and 1, 2 and 3, and so on. So do
    # vertical ones in each column. Edge k is the horizontal edge from corner 2k to 2k + 1.
    keys = _column_keys(corners.x, corners.y, corners.leads_down)
    by_column = np.argsort(keys)
    across = np.empty_like(by_column)
    across[by_column[::2]], across[by_column[1::2]] = by_column[1::2], by_column[::2]
    left = np.arange(0, len(corners.x), 2)
    is_upper = corners.is_upper[::2]
    ring_of = connected_components(_successors(across[left + is_upper] // 2), directed=False)[1]
    _, first = np.unique(ring_of, return_index=True)
    is_hole = ~is_upper[first]
    # The run of pixels above a hole begins at an edge of its region's outline, or of another hole.
    start = corners.run_start[left[first]], corners.y[left[first]] - 1
    edge = np.searchsorted(keys, _column_keys(*start, 1), side="right", sorter=by_column) - 1
    around = np.where(is_hole, ring_of[by_column[edge] // 2], np.arange(len(first)))
    while is_hole[around].any():
        around = around[around]
    order = np.lexsort((first, is_hole, first[around]))
    # From the first edge to the right: an outline has the mask at its right hand, a hole does not.
    runs_right = is_upper != is_hole[ring_of]
    following = across[left + runs_right] // 2
    # The last edge of each ring leads to the first one of the next, so that one walk visits all.
    last = np.empty_like(following)
    last[following] = np.arange(len(following))
    following[last[first[order]]] = np.roll(first[order], -1)
    edges = breadth_first_order(_successors(following), first[order[0]])[0].astype(np.int64)
    index = 2 * edges[:, None] + np.stack([~runs_right[edges], runs_right[edges]], 1)
    sizes = 2 * np.bincount(ring_of)[order]
    return PixelRings(
        np.stack([corners.x, corners.y], 1)[index.ravel()],
        np.concatenate([[0], np.cumsum(sizes)]),
        np.append(np.flatnonzero(~is_hole[order]), len(order)),
    )


def _column_keys(x: np.ndarray, y: np.ndarray, leads_down: np.ndarray | int) -> np.ndarray:
    """Return an int64 for each corner `[N]`, ordered by x, then by y."""
    return (x.astype(np.int64) << 32) + (y.astype(np.int64) << 1) + leads_down


def _successors(following: np.ndarray) -> csr_array:
    """Return the graph in which each node `[N]` leads to the one that follows it."""
    count = len(following)
    return csr_array((np.ones(count), following, np.arange(count + 1)), (count, count))
