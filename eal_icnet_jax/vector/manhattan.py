"""Outlines with horizontal and vertical edges only."""

import heapq

import numpy as np
import shapely

from eal_icnet_jax.vector.pixel_rings import PixelRings, joined_polygons
from eal_icnet_jax.vector.separation import keep_apart

BRIDGE = 0.25
"""Half the side in pixels of the square that joins two pixels which touch at a corner only."""

GRID = 1 / 16
"""Positions of straightened edges in pixels are multiples of this, so that gaps are no smaller."""


def to_manhattan(rings: PixelRings, jog: float) -> list[shapely.Polygon]:
    """Return outlines with horizontal and vertical edges only.

    Args:
      rings: of a mask, as `outlines.trace` returns them.
      jog: steps of up to this many pixels are straightened, and so are notches and bumps that are
        at most as wide and as deep. 0 gives the edges of the pixels themselves, with a square of
        half a pixel where two pixels touch at a corner only.

    Returns:
      The polygons. No two of them meet: instead, they keep the edges of the pixels, and so do
      those that would cross themselves.
    """
    if not len(rings):
        return []
    pairs = [_exact_and_straight(part, jog) for part in rings.parts()]
    exact, straight = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return keep_apart(straight, exact) if jog else [*exact]


def _exact_and_straight(rings: PixelRings, jog: float) -> tuple[np.ndarray, np.ndarray]:
    """Return polygons `[P]` along the edges of the pixels, and straightened ones `[P]`."""
    corners, is_bridge, starts = _pixel_corners(rings)
    exact = joined_polygons(corners, starts, rings.polygons)
    if not jog:
        return exact, exact
    parts = np.split(corners, starts[1:-1]), np.split(is_bridge, starts[1:-1])
    straight = [_straighten(*ring, jog) for ring in zip(*parts, strict=True)]
    starts = np.cumsum([0, *map(len, straight)])
    return exact, joined_polygons(np.concatenate(straight), starts, rings.polygons)


def _pixel_corners(rings: PixelRings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the corners of rings, in which pixels that touch at a corner only are joined.

    Returns:
      Corners `[N, 2]`, whether each belongs to a square that joins two pixels `[N]`, and the index
      of the first corner of each ring and N `[R + 1]`.
    """
    before, after = (
        BRIDGE * sides for sides in (rings.directions[rings.preceding], rings.directions)
    )
    is_saddle = rings.are_saddles
    points = np.stack([-before, np.where(is_saddle[:, None], after - before, 0), after], 1)
    points += rings.corners[:, None]
    is_kept = np.stack([is_saddle, np.ones_like(is_saddle), is_saddle], 1)
    sizes = np.add.reduceat(is_kept.sum(1), rings.starts[:-1])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return points[is_kept], np.repeat(is_saddle[:, None], 3, 1)[is_kept], starts


def _straighten(corners: np.ndarray, is_bridge: np.ndarray, jog: float) -> np.ndarray:
    """Merge edges of a ring whose edges are alternately horizontal and vertical.

    The shortest edge is removed first: the two edges beside it become one, at the mean of their
    positions weighted by their lengths.

    Args:
      corners: `[N, 2]`.
      is_bridge: `[N]`, whether a corner must stay, and the edges beside it.
      jog: length in pixels up to which edges are removed.

    Returns:
      The remaining corners `[M, 2]`.
    """
    count = len(corners)
    # Edge k runs from corner k to the next one. Its position is its y if it is horizontal.
    is_vertical = corners[:, 0] == np.roll(corners, -1, axis=0)[:, 0]
    position = np.where(is_vertical, corners[:, 0], corners[:, 1]).tolist()
    before = [(k - 1) % count for k in range(count)]
    after = [(k + 1) % count for k in range(count)]
    exists = [True] * count
    # Edges at a bridge do not move, and neither does what would change their length.
    is_held = is_bridge | np.roll(is_bridge, 1) | np.roll(is_bridge, -1) | np.roll(is_bridge, -2)
    is_held = is_held.tolist()

    def length(k: int) -> float:
        return abs(position[after[k]] - position[before[k]])

    queue = [(length(k), k) for k in range(count) if length(k) <= jog]
    heapq.heapify(queue)
    remaining = count
    while queue and remaining > 4:
        size, k = heapq.heappop(queue)
        if not exists[k] or size != length(k) or size > jog:
            continue
        a, b = before[k], after[k]
        if is_held[a] or is_held[b]:
            continue
        first = position[k] - position[before[a]]
        second = position[after[b]] - position[k]
        if first * second < 0 and min(abs(first), abs(second)) > jog:
            continue  # a narrow notch or bump that is deeper than a jog
        total = abs(first) + abs(second)
        if total:
            position[a] = (position[a] * abs(first) + position[b] * abs(second)) / total
        exists[k] = exists[b] = False
        after[a] = after[b]
        before[after[b]] = a
        remaining -= 2
        for other in (before[a], a, after[a]):
            if length(other) <= jog:
                heapq.heappush(queue, (length(other), other))
    out, start = [], exists.index(True)
    k = start
    while True:
        own, previous = position[k], position[before[k]]
        out.append((own, previous) if is_vertical[k] else (previous, own))
        k = after[k]
        if k == start:
            return np.rint(np.array(out) / GRID) * GRID
