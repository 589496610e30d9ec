"""Percentile stretch: an image's levels spread over the whole range, decided once per image."""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from eal_icnet_jax.imaging.mosaics import Mosaic, blocks
from eal_icnet_jax.imaging.uncovered_places import black_squares, uncovered_places

Percentiles = tuple[float, float]
"""Percentiles of an image's levels that become black and white."""

MOST_BLOCKS = 64
"""Largest number of blocks of a mosaic whose levels decide; they are evenly spread."""

MOST_EMPTY = 0.1
"""Largest part of an image in black squares that does not count, because no photograph covers them,
as beyond the tiles of a mosaic and beside a moved image. If it is more, the ground itself is
black."""


def _histograms(part: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the number of pixels of each level in each channel, `[C, levels]`.

    Also returns how many lie in black squares.
    """
    channels = part[..., None] if part.ndim == 2 else part
    levels = np.iinfo(part.dtype).max + 1
    empty = int(np.count_nonzero(black_squares(part)))
    counts = [
        np.bincount(channels[..., k].ravel(), minlength=levels) for k in range(channels.shape[-1])
    ]
    return np.stack(counts), empty


def _tables(
    parts: Iterable[np.ndarray], percentiles: Percentiles, dtype: np.dtype
) -> tuple[np.ndarray, bool]:
    """Return the new level of each level of each channel, `[C, levels]`, from parts of an image.

    Also returns whether the ground is black, so that black places say nothing.
    """
    histograms, empties = zip(*map(_histograms, parts), strict=True)
    counts, empty = sum(histograms), sum(empties)
    ground_is_black = empty > MOST_EMPTY * counts[0].sum()
    if not ground_is_black:
        counts[:, 0] -= empty
    return np.stack([_table(channel, percentiles, dtype) for channel in counts]), ground_is_black


def _table(counts: np.ndarray, percentiles: Percentiles, dtype: np.dtype) -> np.ndarray:
    """Return the new level of each level of one channel."""
    below = np.cumsum(counts) / max(counts.sum(), 1)
    low, high = (int(np.searchsorted(below, percent / 100)) for percent in percentiles)
    maximum = np.iinfo(dtype).max
    levels = np.arange(len(counts), dtype=np.float64)
    if high <= low:  # one level nearly everywhere
        return levels.astype(dtype)
    return np.clip(np.rint((levels - low) * (maximum / (high - low))), 0, maximum).astype(dtype)


def _applied(tables: np.ndarray, part: np.ndarray) -> np.ndarray:
    if part.ndim == 2:
        return tables[0][part]
    return np.stack([table[part[..., k]] for k, table in enumerate(tables)], -1)


def stretch(image: np.ndarray, percentiles: Percentiles | None) -> np.ndarray:
    """Return an image whose percentiles are black and white, each channel by itself.

    Args:
      image: `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16.
      percentiles: None for no change.
    """
    if percentiles is None:
        return image
    tables, _ = _tables([image], percentiles, image.dtype)
    return _applied(tables, image)


def stretched(mosaic: Mosaic, percentiles: Percentiles | None) -> Mosaic:
    """Return a mosaic stretched like `stretch`, decided once by levels from all over it.

    It knows which places no photograph covers.
    """
    if percentiles is None:
        return mosaic
    parts = list(blocks(mosaic.shape))
    chosen = np.unique(np.linspace(0, len(parts) - 1, MOST_BLOCKS).round().astype(int))
    tables, ground_is_black = _tables((mosaic[parts[k]] for k in chosen), percentiles, mosaic.dtype)
    return dataclasses.replace(
        mosaic,
        read=lambda rows, columns: _applied(tables, mosaic.read(rows, columns)),
        uncovered=None if ground_is_black else functools.partial(uncovered_places, mosaic),
    )
