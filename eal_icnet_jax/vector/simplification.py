"""Outlines with fewer vertices, whose straight edges stay straight."""

import numpy as np
import shapely

from eal_icnet_jax.vector.pixel_rings import PixelRings, corner_keys, joined_polygons, rotated
from eal_icnet_jax.vector.separation import are_sound, keep_apart

SAFE_TOLERANCE = 0.45
"""Tolerance in pixels up to which no two regions meet: they are one pixel apart or more."""

FEW_CORNERS = 12
"""Outlines of up to so many corners are kept exactly, unless they have stairs."""

DIAGONAL_STEPS = 4
"""Stairs of so many steps of one pixel are a diagonal edge, which stays where it is."""


def simplify(rings: PixelRings, tolerance: float) -> list[shapely.Polygon]:
    """Return polygons with fewer vertices.

    Horizontal and vertical edges meet in the pixels' own corners, and stairs of single pixels are
    slopes. What is drawn of horizontal, vertical and diagonal edges keeps exactly these edges.

    Args:
      rings: of a mask, as `outlines.trace` returns them.
      tolerance: largest distance in pixels by which an outline may be simplified. No two polygons
        meet: those that would are simplified by at most `SAFE_TOLERANCE`.
    """
    if not len(rings):
        return []
    safe = _simplified(rings, min(tolerance, SAFE_TOLERANCE))
    is_sound = are_sound(safe)
    if not is_sound.all():
        safe = np.where(is_sound, safe, _simplified(rings, 0))
    return (
        keep_apart(_simplified(rings, tolerance), safe) if tolerance > SAFE_TOLERANCE else [*safe]
    )


def _simplified(rings: PixelRings, tolerance: float) -> np.ndarray:
    """Return simplified polygons `[P]`, which may touch or cross themselves or others."""
    return np.concatenate([_simplify_part(part, tolerance) for part in rings.parts()])


def _simplify_part(rings: PixelRings, tolerance: float) -> np.ndarray:
    """Return simplified polygons `[P]`."""
    points, ring_of, is_fixed = _vertices(rings, tolerance)
    if tolerance:
        anchors = _anchors(points, ring_of, is_fixed)
        fewer = _without_collinear(*_douglas_peucker(points, ring_of, anchors, tolerance))
        # A ring that vanishes stays as it is.
        is_lost = np.bincount(fewer[1], minlength=len(rings.starts) - 1) < 3
        parts = [(p[k], r[k]) for p, r, k in (
            (points, ring_of, is_lost[ring_of]), (*fewer, ~is_lost[fewer[1]])
        )]  # fmt: skip
        points, ring_of = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(ring_of, kind="stable")
        points, ring_of = points[order], ring_of[order]
    points, ring_of = _without_collinear(points, ring_of)
    saddles = np.unique(corner_keys(rings.corners[rings.are_saddles]))
    points = _square_steps(points, ring_of, saddles)
    starts = np.searchsorted(ring_of, np.arange(len(rings.starts)))
    return joined_polygons(points, starts, rings.polygons)


def _vertices(rings: PixelRings, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the vertices from which an outline is simplified.

    A corner of two straight edges is the pixel's own. An edge of one pixel is straight if the
    outline turns back there, as at the end of a wire. Otherwise it is a step, and the outline runs
    through its middle. So do both outlines where two pixels touch at a corner only.

    Returns:
      Points `[M, 2]`, the ring of each `[M]`, and whether the vertex must stay `[M]`.
    """
    lengths, before, after = rings.lengths, rings.preceding, rings.following
    is_step = (lengths == 1) & ~rings.turns_back
    is_stair = ~rings.turns_back & is_step[before] & is_step[after]
    sizes = np.diff(rings.starts)
    is_exact = (sizes <= FEW_CORNERS) & ~np.logical_or.reduceat(is_stair, rings.starts[:-1])
    is_exact = is_exact[rings.ring_of]
    is_square = (~(is_step | is_step[before]) | is_exact) & ~rings.are_saddles
    is_long = (lengths > 2 * tolerance) | rings.turns_back
    # In the middle of an edge of one pixel, the outline has one vertex, not two.
    is_shared = (lengths[before] == 1) & ~is_square[before]
    is_kept = np.stack([~is_square & ~is_shared, is_square, ~is_square], 1)
    first, last = _diagonals(is_step)
    stays_before, stays_after = rings.are_saddles.copy(), rings.are_saddles.copy()
    stays_before[first], stays_after[after[last]] = True, True
    stays_after[before[is_shared & stays_before]] = True
    is_fixed = np.stack([stays_before, is_exact | (is_long & is_long[before]), stays_after], 1)
    points = np.stack([rings.ends, rings.corners, rings.begins], 1)
    ring_of = np.repeat(rings.ring_of[:, None], 3, 1)
    return points[is_kept], ring_of[is_kept], is_fixed[is_kept]


def _diagonals(is_step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last step of each diagonal edge.

    Args:
      is_step: whether an edge is a step `[N]`. The first edge of a ring is none, as it is the
        uppermost one.
    """
    changes = np.flatnonzero(np.diff(is_step, prepend=False, append=False))
    first, last = changes[::2], changes[1::2] - 1
    is_diagonal = last - first >= DIAGONAL_STEPS - 1
    return first[is_diagonal], last[is_diagonal]


def _anchors(points: np.ndarray, ring_of: np.ndarray, is_fixed: np.ndarray) -> np.ndarray:
    """Return whether a vertex stays `[M]`, at least two in each ring: far ones if none is fixed."""
    starts = np.searchsorted(ring_of, np.arange(ring_of[-1] + 2))
    anchors = is_fixed.copy()

    def add_farthest(values: np.ndarray, least: int):
        """Add the vertex of the largest value to each ring of fewer anchors."""
        is_largest = values == np.maximum.reduceat(values, starts[:-1])[ring_of]
        counts = np.add.reduceat(anchors.astype(int), starts[:-1])
        anchors[_first_of_rings(np.flatnonzero(is_largest), ring_of)[counts < least]] = True

    add_farthest(-corner_keys(2 * points), 1)
    first = _first_of_rings(np.flatnonzero(anchors), ring_of)
    add_farthest(((points - points[first[ring_of]]) ** 2).sum(1), 2)
    return anchors


def _first_of_rings(index: np.ndarray, ring_of: np.ndarray) -> np.ndarray:
    """Return the first of some vertices, at least one of each ring, in each ring `[R]`."""
    return index[np.searchsorted(ring_of[index], np.arange(ring_of[-1] + 1))]


def _douglas_peucker(
    points: np.ndarray, ring_of: np.ndarray, anchors: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points `[K, 2]` that are left between anchors, and their rings `[K]`."""
    starts = np.searchsorted(ring_of, np.arange(ring_of[-1] + 2))
    index = rotated(starts, _first_of_rings(np.flatnonzero(anchors), ring_of))
    points, anchors = points[index], anchors[index]
    # A chain runs from an anchor to the next one, and the last of a ring to its first.
    begins = np.flatnonzero(anchors)
    ends = np.append(begins[1:], len(points))
    is_last = np.isin(ends, starts)
    targets = np.where(is_last, starts[ring_of[begins]], ends % len(points))
    order = np.insert(np.arange(len(points)), ends, targets)
    chain_of = np.insert(np.cumsum(anchors) - 1, ends, np.arange(len(begins)))
    lines = shapely.linestrings(points[order], indices=chain_of)
    lines = shapely.simplify(lines, tolerance, preserve_topology=False)
    left, chain_of = shapely.get_coordinates(lines, return_index=True)
    is_target = np.append(chain_of[1:] != chain_of[:-1], True)
    return left[~is_target], ring_of[begins[chain_of[~is_target]]]


def _neighbours(ring_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the points before and after each point of a ring `[M]`."""
    count = len(ring_of)
    first = np.flatnonzero(np.append(True, ring_of[1:] != ring_of[:-1]))
    last = np.append(first[1:], count) - 1
    before, after = np.arange(count) - 1, np.arange(count) + 1
    before[first], after[last] = last, first
    return before, after


def _without_collinear(points: np.ndarray, ring_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points, and the ring of each, at which rings change their direction."""
    before, after = _neighbours(ring_of)
    a, b = points - points[before], points[after] - points
    is_turn = a[:, 0] * b[:, 1] != a[:, 1] * b[:, 0]
    return points[is_turn], ring_of[is_turn]


def _square_steps(points: np.ndarray, ring_of: np.ndarray, saddles: np.ndarray) -> np.ndarray:
    """Return the points with steps of one pixel, between parallel edges, along the pixel's edge.

    Args:
      points: `[M, 2]`.
      ring_of: ring of each point `[M]`.
      saddles: sorted keys of the corners that no outline may touch.
    """
    before, after = _neighbours(ring_of)
    steps = points[after] - points
    is_diagonal = (np.abs(steps) == 1).all(1)
    out = points.copy()
    for along, across in ((0, 1), (1, 0)):
        is_parallel = (steps[:, across] == 0) & (steps[:, along] != 0)
        is_step = is_diagonal & is_parallel[before] & is_parallel[after]
        k = np.flatnonzero(is_step & (points[:, along] % 1 == 0.5))
        near, far = points[k].copy(), points[after[k]].copy()
        near[:, along] += steps[k, along] / 2
        far[:, along] -= steps[k, along] / 2
        is_free = ~np.isin(corner_keys(near), saddles) & ~np.isin(corner_keys(far), saddles)
        out[k[is_free]], out[after[k[is_free]]] = near[is_free], far[is_free]
    return out
