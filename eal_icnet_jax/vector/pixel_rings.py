"""Outlines of pixels as arrays of corners, so that millions of corners take no Python loop."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np
import shapely

PART_CORNERS = 2**17
"""Number of corners that are worked on at once, to bound the memory."""


def corner_keys(corners: np.ndarray) -> np.ndarray:
    """Return an int64 for each corner `[N, 2]`, ordered by y, then by x."""
    return (corners[:, 1].astype(np.int64) << 32) + corners[:, 0].astype(np.int64)


def rotated(starts: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the indices `[N]` that let each ring begin at another of its elements.

    Args:
      starts: `[R + 1]`, index of the first element of each ring, and N.
      first: `[R]`, index of the element at which each ring is to begin.
    """
    sizes = np.diff(starts)
    begin, offset, size = (
        np.repeat(values, sizes) for values in (starts[:-1], first - starts[:-1], sizes)
    )
    return begin + (offset + np.arange(starts[-1]) - begin) % size


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

    Each ring consists of straight edges that are alternately horizontal and vertical, and runs
    clockwise, where y points downwards. Edge k runs from corner k to the next corner of its ring.
    Where two pixels of a region touch at a corner only, that corner occurs twice.

    Attributes:
      corners: `[N, 2]` int64, (x, y) in pixels.
      starts: `[R + 1]`, index of the first corner of each ring, and N.
      polygons: `[P + 1]`, index of the first ring of each polygon, which is its outer one, and R.
    """

    corners: np.ndarray
    starts: np.ndarray
    polygons: np.ndarray

    def __len__(self) -> int:
        """Return the number of polygons."""
        return len(self.polygons) - 1

    def parts(self, corners: int = PART_CORNERS) -> Iterator["PixelRings"]:
        """Yield all polygons in order, of so many corners at a time, or one that has more."""
        part_of = (self.starts[self.polygons[1:]] - 1) // corners
        ends = np.append(np.flatnonzero(np.diff(part_of)) + 1, len(self))
        for first, last in itertools.pairwise([0, *ends]):
            rings = slice(self.polygons[first], self.polygons[last])
            starts = self.starts[rings.start : rings.stop + 1]
            yield PixelRings(
                self.corners[starts[0] : starts[-1]],
                starts - starts[0],
                self.polygons[first : last + 1] - rings.start,
            )

    def selected(self, is_kept: np.ndarray) -> "PixelRings":
        """Return the polygons for which a bool array `[P]` says so."""
        ring_counts = np.diff(self.polygons)
        ring_is_kept = np.repeat(is_kept, ring_counts)
        sizes = np.diff(self.starts)
        return PixelRings(
            self.corners[np.repeat(ring_is_kept, sizes)],
            np.append(0, np.cumsum(sizes[ring_is_kept])),
            np.append(0, np.cumsum(ring_counts[is_kept])),
        )

    def pixel_counts(self) -> np.ndarray:
        """Return the number of pixels of each polygon `[P]`."""
        x, y = self.corners.T
        # Every ring runs clockwise: holes have positive areas too.
        areas = np.add.reduceat((x - x[self.following]) * y, self.starts[:-1])
        first = self.polygons[:-1]
        return 2 * areas[first] - np.add.reduceat(areas, first)

    def midpoints(self) -> np.ndarray:
        """Return polygons `[P]` through the middles of the pixel edges next to each corner.

        They cut corners by half a pixel, and no two of them meet.
        """
        if not len(self):
            return np.empty(0, object)
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
