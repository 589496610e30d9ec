"""Parts of a large image at the resolution of a screen, read from a pyramid of halved images."""

import json
import pathlib
import shutil
from typing import NamedTuple

import numpy as np
import zarr

from eal_icnet_jax.imaging import levels, pixel_values, pyramid, stretching
from eal_icnet_jax.imaging.mosaics import Mosaic, blocks
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_written

SHOWN_PERCENTILES = 0.5, 99.5
"""Percentiles of a photograph that are shown black and white."""


class Part(NamedTuple):
    """A part of an image at some resolution.

    pixels: `[h, w]` or `[h, w, 3]`.
    left: column of the image at the part's left edge.
    top: row at its upper edge.
    scale: pixels of the part in a pixel of the image, a power of two of 1 or less.
    """

    pixels: np.ndarray
    left: int
    top: int
    scale: float


class Pyramid:
    """The pyramid of an OME-Zarr.

    Args:
      path: of the Zarr.
    """

    def __init__(self, path: pathlib.Path):
        group = zarr.open_group(str(path), mode="r")
        self._arrays = [group[str(k)] for k in range(len(list(group.array_keys())))]
        self.shape = tuple(self._arrays[0].shape[:2])

    def part(self, left: float, top: float, right: float, bottom: float, most_pixels: int) -> Part:
        """Return a rectangle of the image at the finest resolution that is not too large.

        Args:
          left: of the rectangle in pixels of the image, which may reach beyond it.
          top: likewise.
          right: likewise.
          bottom: likewise.
          most_pixels: of the result along either side.
        """
        extent, level = max(right - left, bottom - top, 1), 0
        while extent / 2**level > most_pixels and level + 1 < len(self._arrays):
            level += 1
        step, array = 2**level, self._arrays[level]
        height, width = array.shape[:2]
        first = [int(np.clip(value // step, 0, size))
                 for value, size in ((top, height), (left, width))]  # fmt: skip
        stop = [int(np.clip(-(-value // step), 0, size))
                for value, size in ((bottom, height), (right, width))]  # fmt: skip
        rows, columns = (slice(*pair) for pair in zip(first, stop, strict=True))
        pixels = np.asarray(array[rows, columns])
        return Part(pixels, columns.start * step, rows.start * step, 1 / step)


def photograph_pyramid(photograph: Mosaic, path: pathlib.Path) -> Pyramid:
    """Return the pyramid of a photograph as it is shown, RGB uint8, which is made at the first use.

    Args:
      photograph: of any levels.
      path: of the Zarr.

    Raises:
      UserError: it cannot be written.
    """
    stamp = json.dumps(photograph.stamp())
    try:
        if path.exists():
            if zarr.open_group(str(path), mode="r").attrs.get("photograph") == stamp:
                return Pyramid(path)
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        shape = (*photograph.shape, 3)
        group = pyramid.create_pyramid(partial, path.stem, shape, np.dtype(np.uint8), None)
        shown = stretching.stretched(levels.in_full_range(photograph, None), SHOWN_PERCENTILES)
        for rows, columns in blocks(photograph.shape):
            values = pixel_values.to_unit_range(shown[rows, columns], 3)
            group["0"][rows, columns] = np.rint(255 * values).astype(np.uint8)
        pyramid.fill_levels(group)
        group.attrs["photograph"] = stamp
        partial.rename(path)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    except zarr.errors.BaseZarrError as error:
        raise UserError(f"{path} is damaged ({error}): remove it") from error
    return Pyramid(path)
