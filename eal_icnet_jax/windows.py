"""Prediction in overlapping windows, blended: a mosaic's probabilities, piece by piece.

Windows are spread evenly, so that each overlaps its neighbours by the wanted width or a little
more. Where they overlap, each counts by a weight that rises from its edge inwards, and weights sum
to one.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from eal_icnet_jax import images
from eal_icnet_jax.mosaics import Mosaic

WINDOW = 512
SHARE = 8
"""Of a window, that two neighbours share: one in so many of its pixels."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """Windows along rows or columns.

    starts: first pixel of each window.
    size: of the windows.
    weights: `[size]` of each; those of all windows at a pixel sum to one.
    """

    starts: tuple[int, ...]
    size: int
    weights: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, length: int, size: int, overlap: int) -> "Axis":
        """Windows that cover `length` pixels, which are at least `size`."""
        count = max(1, -(-(length - overlap) // (size - overlap)))
        starts = np.rint(np.linspace(0, length - size, count)).astype(int)
        edge = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
        ramp = np.minimum(edge / max(overlap, 1), 1)
        total = np.zeros(length)
        for start in starts:
            total[start : start + size] += ramp
        weights = (ramp / total[start : start + size] for start in starts)
        return cls(tuple(map(int, starts)), size, tuple(w.astype(np.float32) for w in weights))

    def over(self, start: int, stop: int) -> list[int]:
        """Which windows have pixels from `start` to `stop`."""
        return [k for k, at in enumerate(self.starts) if at < stop and at + self.size > start]


class Blended:
    """A mosaic's probabilities: a function of place alone, in whichever order they are asked for.

    Args:
      mosaic: at least as large as a window.
      predict: images `[B, h, w, C]` float32 in [0, 1] to probabilities `[B, h, w, classes]`.
      channels, classes: of the model.
      window: height and width.
      overlap: in pixels, at most half a window.
      batch: windows that are predicted at once.
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
        self._down, self._across = (
            Axis.of(length, size, min(overlap, size // 2))
            for length, size in zip(mosaic.shape, window, strict=True)
        )
        self._tell: Callable[[int], object] = lambda count: None

    @contextlib.contextmanager
    def told(self, tell: Callable[[int], object]) -> Iterator[None]:
        """Calls `tell` with each number of windows that has been predicted."""
        before, self._tell = self._tell, tell
        try:
            yield
        finally:
            self._tell = before

    def strips(self, columns: slice, strips: Iterable[slice]) -> Iterator[np.ndarray]:
        """Probabilities `[rows, columns, classes]` float32 of one strip of rows after another.

        Rows of windows that the next strip needs too are kept, and no others.
        """
        kept: dict[int, np.ndarray] = {}
        for rows in strips:
            needed = self._down.over(rows.start, rows.stop)
            kept = {k: kept[k] for k in needed if k in kept}
            width = columns.stop - columns.start
            out = np.zeros((rows.stop - rows.start, width, self._classes), np.float32)
            for k in needed:
                if k not in kept:
                    kept[k] = self._row(k, columns)
                start = self._down.starts[k]
                first, last = max(rows.start, start), min(rows.stop, start + self._down.size)
                part = slice(first - start, last - start)
                weights = self._down.weights[k][part, None, None]
                out[first - rows.start : last - rows.start] += weights * kept[k][part]
            yield out

    def count(self, columns: slice, strips: Iterable[slice]) -> int:
        """How many windows `strips` predicts."""
        rows: set[int] = set()
        count = 0
        for strip in strips:
            needed = set(self._down.over(strip.start, strip.stop))
            count += len(needed - rows)
            rows = needed
        return count * len(self._across.over(columns.start, columns.stop))

    def _row(self, k: int, columns: slice) -> np.ndarray:
        """A row of windows, blended with one another, `[window height, columns, classes]`."""
        across, size = self._across, self._across.size
        chosen = across.over(columns.start, columns.stop)
        left = across.starts[chosen[0]]
        rows = slice(self._down.starts[k], self._down.starts[k] + self._down.size)
        band = self._mosaic[rows, slice(left, across.starts[chosen[-1]] + size)]
        out = np.zeros((len(band), columns.stop - columns.start, self._classes), np.float32)
        for first in range(0, len(chosen), self._batch):
            batch = chosen[first : first + self._batch]
            starts = [across.starts[j] - left for j in batch]
            windows = [
                images.to_unit_range(band[:, start : start + size], self._channels)
                for start in starts
            ]
            # Batches of one size, so that a window's place in the last makes no difference.
            windows += windows[-1:] * (self._batch - len(windows))
            probabilities = self._predict(np.stack(windows))
            self._tell(len(batch))
            for j, predicted in zip(batch, probabilities, strict=False):
                start = across.starts[j]
                a, b = max(columns.start, start), min(columns.stop, start + size)
                part = slice(a - start, b - start)
                weighted = across.weights[j][part, None] * predicted[:, part]
                out[:, a - columns.start : b - columns.start] += weighted
        return out
