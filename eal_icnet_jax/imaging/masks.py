"""What the levels of a mask file mean: one rule for labels, predictions and layouts."""

import dataclasses
from collections.abc import Callable, Iterable

import cv2
import numpy as np

from eal_icnet_jax.imaging.mosaics import Mosaic, blocks, slices_of
from eal_icnet_jax.system.errors import UserError

MOST_COLOURS = 4096
"""Largest number of different colours that are counted."""

SMALLEST_BLUR = 16
"""Smallest distance of two levels between which a blurred mask has others."""

COLOURFUL = 24
"""Smallest difference between the channels of a pixel that is coloured."""

Rule = Callable[[np.ndarray], np.ndarray]
"""Takes `[h, w]` or RGB `[h, w, 3]`, returns the mask `[h, w]` bool."""


def _brightness(image: np.ndarray) -> np.ndarray:
    """Return the largest channel of each pixel, so that every pure colour is as bright as white."""
    return image.max(-1) if image.ndim == 3 else image


def _packed(image: np.ndarray) -> np.ndarray:
    """Return each colour as one number."""
    bits = 8 * image.dtype.itemsize
    wide = image.astype(np.uint64)
    return (wide[..., 0] << (2 * bits)) | (wide[..., 1] << bits) | wide[..., 2]


@dataclasses.dataclass
class LevelStatistics:
    """The levels of a mask file, collected part by part.

    Attributes:
      counts: number of pixels of each level, the largest channel of colours.
      colours: different colours, as one number each; None once there are too many.
      is_coloured: whether any pixel is not grey.
      bits: of a channel.
    """

    counts: np.ndarray
    colours: set[int] | None
    is_coloured: bool
    bits: int

    @classmethod
    def of(cls, parts: Iterable[np.ndarray], dtype: np.dtype) -> "LevelStatistics":
        """Collect the statistics of an image `[H, W]` or `[H, W, 3]`, given in parts.

        Args:
          parts: that make up the image.
          dtype: of the pixels, uint8 or uint16.
        """
        bits = 8 * np.dtype(dtype).itemsize
        statistics = cls(np.zeros(2**bits, np.int64), set(), False, bits)
        for part in parts:
            statistics._add(part)
        return statistics

    def _add(self, part: np.ndarray):
        size = len(self.counts)
        # By rows, because OpenCV counts in float32, which is exact up to 2**24.
        for rows in slices_of(len(part), max(1, 2**20 // part.shape[1])):
            levels = np.ascontiguousarray(_brightness(part[rows]))
            counts = cv2.calcHist([levels], [0], None, [size], [0, size])
            self.counts += counts.ravel().astype(np.int64)
        if part.ndim == 3:
            spread = part.max(-1) - part.min(-1)
            self.is_coloured |= bool((spread > COLOURFUL << (self.bits - 8)).any())
            if self.colours is not None:
                self.colours.update(np.unique(_packed(part)).tolist())
                if len(self.colours) > MOST_COLOURS:
                    self.colours = None


def _fills_regions(parts: Iterable[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Return whether each level that occurs fills regions, `[N]` bool.

    Then most of its pixels begin a square of 2x2 pixels of this level. On a blurred edge few do.

    Args:
      parts: that make up the image.
      counts: of `LevelStatistics`.
    """
    squares = np.zeros_like(counts)
    for part in parts:
        level = _brightness(part)
        first = level[:-1, :-1]
        is_square = (first == level[1:, :-1]) & (first == level[:-1, 1:]) & (first == level[1:, 1:])
        squares += np.bincount(first[is_square], minlength=len(squares))
    return (2 * squares >= counts)[counts > 0]


def _colour(packed: int, bits: int) -> tuple[int, ...]:
    return tuple((packed >> shift) & (2**bits - 1) for shift in (2 * bits, bits, 0))


def _two_colours(statistics: LevelStatistics) -> tuple[Rule, str]:
    """Return the rule for two colours: the brighter one is foreground."""
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R 601
    low, high = sorted(
        (_colour(packed, statistics.bits) for packed in statistics.colours or ()),
        key=lambda colour: float(weights @ colour),
    )
    note = "" if not any(low) else f"has the colours {low} and {high}: the brighter is foreground"
    return lambda image: (image == np.array(high)).all(-1), note


def _listed(levels: np.ndarray) -> str:
    """Return levels as text, shortened if they are many."""
    shown = ", ".join(map(str, levels[:6]))
    return shown if len(levels) <= 6 else f"{shown}, ..., {levels[-1]}"


def _is_blurred(levels: np.ndarray, counts: np.ndarray, fills_regions: np.ndarray) -> bool:
    """Return whether all levels but two come from antialiasing or JPEG.

    Args:
      levels: that occur, in ascending order, `[N]`.
      counts: number of pixels of each, `[N]`.
      fills_regions: whether each one's pixels lie in regions, `[N]`.
    """
    low, high = int(levels[0]), int(levels[-1])
    if high - low < SMALLEST_BLUR:
        return False
    if fills_regions[1:-1].any() and _are_regions(fills_regions, counts):
        return False
    quarter = (high - low) / 4
    is_between = (levels > low + quarter) & (levels < high - quarter)
    if fills_regions[is_between].any():
        return False
    return bool(counts[is_between].sum() <= counts.sum() / 4)


def _are_regions(fills_regions: np.ndarray, counts: np.ndarray) -> bool:
    """Return whether nearly all levels, and pixels, belong to regions of one level.

    Args:
      fills_regions: whether each level's pixels lie in regions, `[N]`.
      counts: number of its pixels, `[N]`.
    """
    return np.mean(fills_regions) >= 0.9 and counts[fills_regions].sum() >= 0.99 * counts.sum()


def rule_of(
    statistics: LevelStatistics, parts: Callable[[], Iterable[np.ndarray]], name: str
) -> tuple[Rule, str]:
    """Return what makes a pixel of a mask file foreground.

    Of two levels or colours the higher is foreground. A mask that is only blurred, by antialiasing
    or JPEG, is cut half-way between its lowest and highest level. Other files with more levels,
    such as region numbers, classes or colours, are foreground wherever they are not 0. A file of
    one level is all background if that is 0, and all foreground otherwise.

    Args:
      statistics: of the whole file.
      parts: returns the parts of the image again, which are needed if it has more than two levels.
      name: of the file, for the error message.

    Returns:
      The rule, and a sentence about the file's levels if they are not those of a plain mask: 0 and
      1, or 0 and the largest value of 8 or 16 bits.

    Raises:
      UserError: what the levels mean cannot be known.
    """
    if statistics.is_coloured and statistics.colours and len(statistics.colours) == 2:
        return _two_colours(statistics)
    levels = np.flatnonzero(statistics.counts)
    low, high = int(levels[0]), int(levels[-1])
    plain = (1, 255, 2**statistics.bits - 1)
    if len(levels) == 1 and not statistics.is_coloured:
        note = "" if low in (0, *plain) else f"has one level, {low}: all of it is foreground"
        return lambda image: _brightness(image) != 0, note
    if len(levels) == 2 and not (statistics.is_coloured and low):
        is_plain = low == 0 and high in plain
        note = "" if is_plain else f"has the levels {low} and {high}: {high} is foreground"
        if statistics.is_coloured:
            colours = statistics.colours
            count = "many" if colours is None else len(colours - {0})
            note = f"has {count} colours besides black: all of them are foreground"
        return lambda image: _brightness(image) == high, note
    counts = statistics.counts[levels]
    fills_regions = _fills_regions(parts(), statistics.counts)
    has_dark_background = not statistics.is_coloured or low <= high / 8
    if has_dark_background and _is_blurred(levels, counts, fills_regions):
        middle = (low + high) / 2
        return lambda image: _brightness(image) > middle, (
            f"has levels between {low} and {high}: those above {middle:g} are foreground"
        )
    if low == 0 and _are_regions(fills_regions, counts):
        return lambda image: _brightness(image) != 0, (
            f"has {len(levels)} levels ({_listed(levels)}): all but 0 are foreground"
        )
    what = f"{len(levels)} levels ({_listed(levels)})"
    if statistics.is_coloured:
        count = "many" if statistics.colours is None else len(statistics.colours)
        what = f"{count} colours whose background is not black"
    raise UserError(
        f"{name} is no mask: it has {what}, so its foreground is unknown; save it with two levels"
    )


class MosaicMask:
    """A mosaic as a bool mask `[H, W]`. Indexing it with slices reads that part.

    Args:
      mosaic: of the mask file.
      is_plain: whether it is known to hold only 0 and one other level. Otherwise the whole file is
        read to decide what its levels mean, once for two levels and twice for more.

    Attributes:
      mosaic: of the mask file.
      shape: height and width.
      notes: a sentence for each thing about the file and its levels that a user should know.

    Raises:
      UserError: what its levels mean cannot be known.
    """

    def __init__(self, mosaic: Mosaic, is_plain: bool = False):
        self.mosaic = mosaic
        self.shape = mosaic.shape
        if is_plain or mosaic.dtype == bool:
            self._rule, self.notes = (lambda image: _brightness(image) != 0), mosaic.notes
            return

        def parts() -> Iterable[np.ndarray]:
            return (mosaic[block] for block in blocks(mosaic.shape))

        statistics = LevelStatistics.of(parts(), mosaic.dtype)
        self._rule, note = rule_of(statistics, parts, str(mosaic.path))
        self.notes = (*mosaic.notes, *filter(None, [note]))

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        return self._rule(self.mosaic[index])
