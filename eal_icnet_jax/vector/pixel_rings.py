"""Outlines of pixels as arrays of corners, so that millions of corners take no Python loop."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import shapely


def corner_keys(corners: np.ndarray) -> np.ndarray:
    """Return an int64 for each corner `[N, 2]`, ordered by y, then by x."""
    return (corners[:, 1].astype(np.int64) << 32) + corners[:, 0].astype(np.int64)


def rotated(starts: np.ndarray, first: np.ndarray, step: np.ndarray | int = 1) -> np.ndarray:
    """Return the indices `[N]` that let each ring begin at another of its elements.

    Args:
      starts: `[R + 1]`, index of the first element of each ring, and N.
      first: `[R]`, index of the element at which each ring is to begin.
      step: 1, or `[R]` of 1 and -1, where -1 reverses a ring.
    """
    sizes = np.diff(starts)
    begin, first, size, step = (
        np.repeat(values, sizes)
        for values in (starts[:-1], first, sizes, np.broadcast_to(step, sizes.shape))
    )
    return begin + (first - begin + step * (np.arange(starts[-1]) - begin)) % size


def joined_polygons(points: np.ndarray, starts: np.ndarray, polygons: np.ndarray) -> np.ndarray:
    """Return polygons `[P]`.

    Args:
      points: `[N, 2]` of rings that do not repeat their first point, at least 3 for each ring.
      starts: `[R + 1]`, index of the first point of each ring, and N.
      polygons: `[P + 1]`, index of the first ring of each polygon, and R.
    """
    closed = np.insert(np.arange(len(points)), starts[1:], starts[:-1])
    offsets = (starts + np.arange(len(starts)), polygons)
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, points[closed], offsets)


@dataclasses.dataclass(frozen=True)
class PixelRings:
    """The edges of pixels around regions.

    Each ring consists of straight edges that are alternately horizontal and vertical. Edge k runs
    from corner k to the next corner of its ring. Where two pixels of a region touch at a corner
    only, that corner occurs twice.

    Attributes:
      corners: `[N, 2]` int64, (x, y) in pixels.
      starts: `[R + 1]`, index of the first corner of each ring, and N.
      polygons: `[P + 1]`, index of the first ring of each polygon, which is its outer one, and R.
    """

    corners: np.ndarray
    starts: np.ndarray
    polygons: np.ndarray

    @classmethod
    def from_midpoints(cls, polygons: Sequence[shapely.Polygon]) -> "PixelRings":
        """Return the rings of polygons that run through the middles of pixel edges."""
        _, points, (starts, first_rings) = shapely.to_ragged_array(polygons)
        here, there = points[:-1], points[1:]
        is_turn = (here != there).all(1)
        is_turn[starts[1:-1] - 1] = False  # from a ring to the next
        turns = np.flatnonzero(is_turn)
        here, there = here[turns], there[turns]
        is_vertical = here[:, 0] == np.rint(here[:, 0])
        corners = np.where(
            is_vertical[:, None],
            np.stack([here[:, 0], there[:, 1]], 1),
            np.stack([there[:, 0], here[:, 1]], 1),
        )
        return cls(
            corners.astype(np.int64),
            np.searchsorted(turns, starts).astype(np.int64),
            first_rings.astype(np.int64),
        )

    def canonical(self) -> "PixelRings":
        """Return the same rings in an order that depends on nothing but their corners.

        A ring begins at its uppermost, then leftmost corner, and runs to the right from there.
        Polygons, and the holes of each, are ordered by these corners.
        """
        keys = corner_keys(self.corners)
        first = np.lexsort((keys, self.ring_of))[self.starts[:-1]]
        runs_right = self.corners[self.following[first], 1] == self.corners[first, 1]
        index = rotated(self.starts, first, np.where(runs_right, 1, -1))
        ring_counts = np.diff(self.polygons)
        outer_keys = np.repeat(keys[first[self.polygons[:-1]]], ring_counts)
        is_hole = np.ones(len(first), bool)
        is_hole[self.polygons[:-1]] = False
        rings = np.lexsort((keys[first], is_hole, outer_keys))
        sizes = np.diff(self.starts)[rings]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        within = np.arange(len(keys)) - np.repeat(starts[:-1] - self.starts[rings], sizes)
        order = np.argsort(outer_keys[self.polygons[:-1]])
        return PixelRings(
            self.corners[index[within]],
            starts,
            np.concatenate([[0], np.cumsum(ring_counts[order])]),
        )

    def midpoints(self) -> np.ndarray:
        """Return polygons `[P]` through the middles of the pixel edges next to each corner."""
        points = np.stack([self.ends, self.begins], 1)
        # An edge of one pixel ends in the middle in which it begins.
        is_kept = np.stack([self.lengths[self.preceding] > 1, self.lengths > 0], 1)
        sizes = np.add.reduceat(is_kept.sum(1), self.starts[:-1])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        return joined_polygons(points[is_kept], starts, self.polygons)

    @functools.cached_property
    def ring_of(self) -> np.ndarray:
        """The ring of each corner `[N]`."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @functools.cached_property
    def following(self) -> np.ndarray:
        """The index of the next corner of the ring `[N]`."""
        index = np.arange(1, len(self.corners) + 1)
        index[self.starts[1:] - 1] = self.starts[:-1]
        return index

    @functools.cached_property
    def preceding(self) -> np.ndarray:
        """The index of the previous corner of the ring `[N]`."""
        index = np.arange(-1, len(self.corners) - 1)
        index[self.starts[:-1]] = self.starts[1:] - 1
        return index

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """The length of each edge in pixels `[N]`."""
        return np.abs(self.corners[self.following] - self.corners).sum(1)

    @functools.cached_property
    def directions(self) -> np.ndarray:
        """The direction of each edge `[N, 2]` of -1, 0 and 1."""
        return np.sign(self.corners[self.following] - self.corners)

    @functools.cached_property
    def begins(self) -> np.ndarray:
        """The middle of the first pixel edge of each edge `[N, 2]`."""
        return self.corners + self.directions / 2

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """The middle of the last pixel edge of the edge before each corner `[N, 2]`."""
        return self.corners - self.directions[self.preceding] / 2

    @functools.cached_property
    def turns_back(self) -> np.ndarray:
        """Whether each edge turns the same way at both ends `[N]`, as the end of a wire does."""
        before, after = self.directions[self.preceding], self.directions
        turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
        return turns == turns[self.following]

    @functools.cached_property
    def are_saddles(self) -> np.ndarray:
        """Whether two pixels of the region touch at the corner only `[N]`."""
        _, inverse, counts = np.unique(
            corner_keys(self.corners), return_inverse=True, return_counts=True
        )
        return counts[inverse] > 1
