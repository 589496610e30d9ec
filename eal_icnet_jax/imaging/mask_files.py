"""Masks written as files: PNG, or OME-TIFF with a pyramid where they are large."""

import pathlib
import tempfile
from typing import Protocol

import numpy as np

from eal_icnet_jax.imaging import png, pyramid
from eal_icnet_jax.imaging.mosaics import blocks
from eal_icnet_jax.system.errors import UserError, os_error_cause
from eal_icnet_jax.system.files import MADE_BY, atomic_file

MAX_PNG_PIXELS = 2048 * 2048
"""Largest number of pixels of a mask that is written as PNG."""


class ReadableMask(Protocol):
    """A mask `[H, W]`. Indexing it with slices reads that part, bool."""

    shape: tuple[int, int]

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray: ...


def ending_of(shape: tuple[int, int]) -> str:
    """Return the ending of the file of a mask of a height and width."""
    return ".png" if shape[0] * shape[1] <= MAX_PNG_PIXELS else ".ome.tif"


def write(path: pathlib.Path, mask: ReadableMask, pixel_size: tuple[float, float] | None) -> float:
    """Write a mask, 0 and 255, completely or not at all.

    Args:
      path: of the file, with the ending of `ending_of`.
      mask: `[H, W]`.
      pixel_size: height and width of a pixel in micrometres, or None if unknown.

    Returns:
      The fraction of the pixels that are foreground.

    Raises:
      UserError: it cannot be written, or what the mask is read from is damaged.
    """
    height, width = mask.shape
    if path.suffix == ".png":
        image = np.where(mask[0:height, 0:width], 255, 0).astype(np.uint8)
        png.write(path, image, pixel_size)
        return float(np.mean(image > 0))
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            zarr_path = pathlib.Path(folder) / "mask.zarr"
            group = pyramid.create_pyramid(
                zarr_path, path.name, mask.shape, np.dtype(np.uint8), pixel_size
            )
            foreground = 0
            for rows, columns in blocks(mask.shape):
                part = mask[rows, columns]
                foreground += int(np.count_nonzero(part))
                group["0"][rows, columns] = np.where(part, 255, 0).astype(np.uint8)
            pyramid.fill_levels(group)
            with atomic_file(path) as partial:
                made_by = {"made_by": MADE_BY.decode()}
                pyramid.write_tiff(group, partial, pixel_size, made_by)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {os_error_cause(error)}") from error
    return foreground / (height * width)
