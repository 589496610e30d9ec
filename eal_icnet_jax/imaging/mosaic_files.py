"""Image files, Zarrs and folders of tiles, found in folders and opened as mosaics."""

import os
import pathlib

from eal_icnet_jax.imaging import decoding, image_folders, placed_mosaic, tile_positions
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.tiff_mosaic import open_tiff
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read


def is_zarr(path: pathlib.Path) -> bool:
    """Return whether a path is the folder of a Zarr array or group, version 2 or 3."""
    return any((path / name).is_file() for name in (".zarray", ".zgroup", "zarr.json"))


def is_tiff(path: pathlib.Path) -> bool:
    """Return whether a file begins like TIFF or BigTIFF.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(4) in decoding.TIFF_SIGNATURES
    except OSError as error:
        raise cannot_be_read(path, error) from error


def find_mosaics(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the image files and Zarrs of a folder, sorted by name.

    Raises:
      UserError: as `image_folders.find_images`.
    """
    zarrs = [path for path in sorted(folder.glob("*.zarr")) if is_zarr(path)]
    has_images = any(path.suffix.lower() in decoding.SUFFIXES for path in folder.glob("*"))
    if zarrs and not has_images:
        return zarrs
    return sorted([*image_folders.find_images(folder), *zarrs])


def open_mosaic(
    path: str | os.PathLike,
    tiles: str | None = None,
    page: int | None = None,
    tile_overlap: float = 0.0,
) -> Mosaic:
    """Open an image of any size, with the pixels that the file holds.

    `levels.in_full_range` turns it into what networks take, `masks.MosaicMask` into a mask.

    Args:
      path: an image file, a Zarr, a file of positions of tiles, or with `tiles` a folder.
      tiles: pattern of the names of the folder's tiles, with `{row}` and `{column}` for numbers.
      page: number of the image among those of the file, from 1; None if it holds one.
      tile_overlap: part of a tile's side that neighbours share, in [0, 0.5].

    Raises:
      UserError: it cannot be read, holds several images and none is named, or its pixels are of a
        kind that is not read.
    """
    path = pathlib.Path(path)
    if page is not None and page < 1:
        raise UserError(f"--page is {page}: name a page from 1 up")
    if tiles is not None:
        return placed_mosaic.open_tiles(path, tiles, tile_overlap)
    if path.suffix.lower() in tile_positions.SUFFIXES and path.is_file():
        return placed_mosaic.open_positions(path)
    if is_zarr(path):
        from eal_icnet_jax.imaging.zarr_mosaic import open_zarr  # imports zarr, which takes time

        return open_zarr(path, page)
    if is_tiff(path):
        return open_tiff(path, page)
    return decoding.open_encoded(decoding.read_bytes(path), str(path), page)
