"""Prediction of a mosaic in overlapping windows, whose probabilities are blended.

Windows are spread evenly, so that neighbours overlap by at least the requested width. Where windows
overlap, each has a weight that rises from its edge inwards, and the weights sum to one.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from eal_icnet_jax.imaging import pixel_values
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.uncovered_places import black_squares, mirrored_into

DEFAULT_WINDOW = 512
"""Default side of a window in pixels."""

OVERLAP_DIVISOR = 8
"""Default overlap: an eighth of the window."""

MAX_WHOLE_PIXELS = 2048 * 2048
"""Largest number of pixels of an image that may go through the network without windows."""


def exceeds_whole(shape: tuple[int, ...], factor: float = 1) -> bool:
    """Return whether an image of a height and width, once magnified, is predicted in windows."""
    return shape[0] * shape[1] * factor**2 > MAX_WHOLE_PIXELS


@dataclasses.dataclass(frozen=True)
class WindowAxis:
    """Places of the windows along one axis of a mosaic.

    Attributes:
      starts: first pixel of each window.
      size: of every window in pixels.
      weights: `[size]` float32 for each window. At a pixel, those of all windows sum to one.
    """

    starts: tuple[int, ...]
    size: int
    weights: tuple[np.ndarray, ...]

    @classmethod
    def covering(cls, length: int, size: int, overlap: int) -> "WindowAxis":
        """Return evenly spread windows that cover an axis.

        Args:
          length: of the axis in pixels, at least `size`.
          size: of a window in pixels.
          overlap: least number of pixels that neighbours share.
        """
        count = max(1, -(-(length - overlap) // (size - overlap)))
        starts = np.rint(np.linspace(0, length - size, count)).astype(int)
        edge_distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
        ramp = np.minimum(edge_distance / max(overlap, 1), 1)
        total = np.zeros(length)
        for start in starts:
            total[start : start + size] += ramp
        weights = (ramp / total[start : start + size] for start in starts)
        return cls(tuple(map(int, starts)), size, tuple(w.astype(np.float32) for w in weights))

    def touching(self, start: int, stop: int) -> list[int]:
        """Return the indices of the windows that have pixels from `start` up to `stop`."""
        return [
            k
            for k, window_start in enumerate(self.starts)
            if window_start < stop and window_start + self.size > start
        ]


class BlendedWindows:
    """The blended probabilities of a mosaic, computed part by part.

    A pixel's probabilities do not depend on the parts that are requested or on their order. Where
    no photograph covers the mosaic they are 0, and `predict` sees the photograph mirrored.

    Args:
      mosaic: at least as large as a window.
      predict: images `[B, h, w, C]` float32 in [0, 1] to probabilities `[B, h, w, classes]`.
      channels: of the images that `predict` takes.
      classes: that `predict` returns.
      window: height and width of a window in pixels.
      overlap: in pixels, at most half a window.
      batch: number of windows that are predicted at once.
    """

    def __init__(
        self,
        mosaic: Mosaic,
        predict: Callable[[np.ndarray], np.ndarray],
        channels: int,
        classes: int,
        window: tuple[int, int],
        overlap: int,
        batch: int = 1,
    ):
        self._mosaic, self._predict = mosaic, predict
        self._channels, self._classes, self._batch = channels, classes, batch
        self._row_axis, self._column_axis = (
            WindowAxis.covering(length, size, min(overlap, size // 2))
            for length, size in zip(mosaic.shape, window, strict=True)
        )

    def strips(
        self,
        columns: slice,
        strips: Iterable[slice],
        on_predicted: Callable[[int], object] = lambda count: None,
    ) -> Iterator[np.ndarray]:
        """Yield the probabilities `[rows, columns, classes]` float32 of one strip after another.

        Args:
          columns: of all strips.
          strips: the rows of each strip. Windows that the next strip needs too are kept.
          on_predicted: called with the number of windows of each batch that has been predicted.
        """
        axis = self._row_axis
        kept: dict[int, np.ndarray] = {}
        for rows in strips:
            needed = axis.touching(rows.start, rows.stop)
            kept = {k: kept[k] for k in needed if k in kept}
            width = columns.stop - columns.start
            out = np.zeros((rows.stop - rows.start, width, self._classes), np.float32)
            for k in needed:
                if k not in kept:
                    kept[k] = self._row_of_windows(k, columns, on_predicted)
                start = axis.starts[k]
                first, last = max(rows.start, start), min(rows.stop, start + axis.size)
                part = slice(first - start, last - start)
                weights = axis.weights[k][part, None, None]
                out[first - rows.start : last - rows.start] += weights * kept[k][part]
            yield out

    def window_count(self, columns: slice, strips: Iterable[slice]) -> int:
        """Return the number of windows that `strips` predicts."""
        kept: set[int] = set()
        rows_of_windows = 0
        for strip in strips:
            needed = set(self._row_axis.touching(strip.start, strip.stop))
            rows_of_windows += len(needed - kept)
            kept = needed
        return rows_of_windows * len(self._column_axis.touching(columns.start, columns.stop))

    def _row_of_windows(
        self, k: int, columns: slice, on_predicted: Callable[[int], object]
    ) -> np.ndarray:
        """Return a row of windows, blended, `[window height, columns, classes]`."""
        axis, size = self._column_axis, self._column_axis.size
        chosen = axis.touching(columns.start, columns.stop)
        left = axis.starts[chosen[0]]
        rows = slice(self._row_axis.starts[k], self._row_axis.starts[k] + self._row_axis.size)
        band = self._mosaic[rows, slice(left, axis.starts[chosen[-1]] + size)]
        out = np.zeros((len(band), columns.stop - columns.start, self._classes), np.float32)
        for first in range(0, len(chosen), self._batch):
            batch = chosen[first : first + self._batch]
            starts = [axis.starts[j] - left for j in batch]
            parts = [band[:, start : start + size] for start in starts]
            gaps = [
                uncovered_in(self._mosaic, part, rows, slice(left + start, left + start + size))
                for part, start in zip(parts, starts, strict=True)
            ]
            windows = [
                pixel_values.to_unit_range(seen(part, gap), self._channels)
                for part, gap in zip(parts, gaps, strict=True)
            ]
            # All batches have one size, so that a window's result does not depend on its batch.
            windows += windows[-1:] * (self._batch - len(windows))
            probabilities = self._predict(np.stack(windows))
            on_predicted(len(batch))
            for j, gap, predicted in zip(batch, gaps, probabilities, strict=False):
                predicted = nothing_in(predicted, gap)
                start = axis.starts[j]
                first_column, end = max(columns.start, start), min(columns.stop, start + size)
                part = slice(first_column - start, end - start)
                weighted = axis.weights[j][part, None] * predicted[:, part]
                out[:, first_column - columns.start : end - columns.start] += weighted
        return out


def uncovered_in(
    mosaic: Mosaic, part: np.ndarray, rows: slice, columns: slice
) -> np.ndarray | None:
    """Return the pixels of a part `[h, w, ...]` of a mosaic that no photograph covers.

    None if there are none, or if that is not known.
    """
    if mosaic.uncovered is None or not black_squares(part).any():
        return None
    found = mosaic.uncovered(rows, columns)
    return found if found.any() else None


def seen(part: np.ndarray, gap: np.ndarray | None) -> np.ndarray:
    """Return a part of an image as a network sees it: mirrored into what `uncovered_in` found."""
    return part if gap is None else mirrored_into(part, gap)


def nothing_in(probabilities: np.ndarray, gap: np.ndarray | None) -> np.ndarray:
    """Return probabilities `[h, w, classes]` with 0 in what `uncovered_in` found."""
    return probabilities if gap is None else np.where(gap[..., None], np.float32(0), probabilities)


def mean_of(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of one or several arrays of one shape, in the type of the first."""
    arrays = iter(arrays)
    total, count = next(arrays), 1
    for array in arrays:
        total, count = total + array, count + 1
    return total if count == 1 else total / total.dtype.type(count)


class AveragedWindows:
    """The mean of the blended probabilities of several sets of windows of one mosaic."""

    def __init__(self, sets: list[BlendedWindows]):
        self._sets = sets

    def strips(
        self,
        columns: slice,
        strips: list[slice],
        on_predicted: Callable[[int], object] = lambda count: None,
    ) -> Iterator[np.ndarray]:
        """Yield what `BlendedWindows.strips` yields, averaged."""
        parts = (windows.strips(columns, strips, on_predicted) for windows in self._sets)
        return map(mean_of, zip(*parts, strict=True))

    def window_count(self, columns: slice, strips: list[slice]) -> int:
        """Return the number of windows that `strips` predicts."""
        return sum(windows.window_count(columns, strips) for windows in self._sets)
