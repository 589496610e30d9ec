"""Percentile stretch: an image's levels spread over the whole range, decided once per image."""

import dataclasses

import cv2
import numpy as np

from eal_icnet_jax.imaging.mosaics import Mosaic, blocks

Percentiles = tuple[float, float]
"""Percentiles of an image's levels that become black and white."""

MOST_BLOCKS = 64
"""Largest number of blocks of a mosaic whose levels decide; they are evenly spread."""


EMPTY = 5
"""Side in pixels of a square without any light that no photograph covers, as beyond the tiles of a
mosaic and beside a moved image. Clipped shadows may be as dark: they stay black."""


def _histograms(part: np.ndarray) -> np.ndarray:
    """Return the number of pixels of each level in each channel, `[C, levels]`.

    Pixels in `EMPTY` squares do not count.
    """
    channels = part[..., None] if part.ndim == 2 else part
    levels = np.iinfo(part.dtype).max + 1
    black = (channels == 0).all(-1)
    if black.any():
        kernel = np.ones((EMPTY, EMPTY), np.uint8)
        empty = cv2.morphologyEx(black.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0
        channels = channels[~empty]
    return np.stack(
        [np.bincount(channels[..., k].ravel(), minlength=levels) for k in range(channels.shape[-1])]
    )


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
    tables = [_table(counts, percentiles, image.dtype) for counts in _histograms(image)]
    return _applied(np.stack(tables), image)


def stretched(mosaic: Mosaic, percentiles: Percentiles | None) -> Mosaic:
    """Return a mosaic stretched like `stretch`, decided once by levels from all over it."""
    if percentiles is None:
        return mosaic
    parts = list(blocks(mosaic.shape))
    chosen = np.unique(np.linspace(0, len(parts) - 1, MOST_BLOCKS).round().astype(int))
    counts = sum(_histograms(mosaic[parts[k]]) for k in chosen)
    tables = np.stack([_table(channel, percentiles, mosaic.dtype) for channel in counts])
    return dataclasses.replace(
        mosaic, read=lambda rows, columns: _applied(tables, mosaic.read(rows, columns))
    )
