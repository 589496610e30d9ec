"""Outlines with horizontal and vertical edges only."""

import heapq

import numpy as np
import shapely


def to_manhattan(polygon: shapely.Polygon, jog: float) -> shapely.Polygon:
    """Return an outline with horizontal and vertical edges only.

    Args:
      polygon: as `outlines.trace` returns it, through the middles of pixel edges.
      jog: steps of up to this many pixels are straightened, and so are notches and bumps that are
        at most as wide and as deep. 0 gives the edges of the pixels themselves.

    Returns:
      The polygon, or the edges of the pixels if straightened edges would cross.
    """
    rings = [_pixel_corners(np.asarray(r.coords)) for r in (polygon.exterior, *polygon.interiors)]
    outer, *holes = (_straighten(ring, jog) for ring in rings)
    straight = shapely.Polygon(outer, holes)
    return straight if straight.is_valid else shapely.Polygon(rings[0], rings[1:])


def _pixel_corners(ring: np.ndarray) -> np.ndarray:
    """Return the corners `[N, 2]` of the pixel edges through whose middles a closed ring runs."""
    ring, following = ring[:-1], ring[1:]
    is_vertical, is_next_vertical = (p[:, 0] == np.rint(p[:, 0]) for p in (ring, following))
    corners = np.where(
        is_vertical[:, None],
        np.stack([ring[:, 0], following[:, 1]], 1),
        np.stack([following[:, 0], ring[:, 1]], 1),
    )
    return corners[is_vertical != is_next_vertical]


def _straighten(corners: np.ndarray, jog: float) -> np.ndarray:
    """Merge edges of a ring whose edges are alternately horizontal and vertical.

    The shortest edge is removed first: the two edges beside it become one, at the mean of their
    positions weighted by their lengths.

    Args:
      corners: `[N, 2]`.
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
            return np.array(out)
