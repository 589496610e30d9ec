"""Image files, Zarrs and folders of tiles, found in folders and opened as mosaics."""

import pathlib
import re

from eal_icnet_jax.imaging import decoding, image_folders
from eal_icnet_jax.imaging.mosaics import Mosaic, mosaic_from_array
from eal_icnet_jax.imaging.tiff_mosaic import open_tiff
from eal_icnet_jax.imaging.tiled_mosaic import open_tiles
from eal_icnet_jax.imaging.zarr_mosaic import open_zarr


def name_without_endings(path: pathlib.Path) -> str:
    """Return the name of an image or Zarr without its endings, such as `.ome.tif`."""
    endings = "|".join(map(re.escape, (*decoding.SUFFIXES, ".zarr")))
    return re.sub(rf"(\.ome)?({endings})$", "", image_folders.normalized(path.name), flags=re.I)


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
        raise decoding.cannot_be_read(path, error) from error


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


def open_mosaic(path: pathlib.Path, tiles: str | None = None) -> Mosaic:
    """Open an image of any size.

    Args:
      path: an image file, a Zarr, or with `tiles` a folder.
      tiles: pattern of the names of the folder's tiles, with `{row}` and `{column}` for numbers.

    Raises:
      UserError: it cannot be read, or its depth or number of channels is not supported.
    """
    if tiles is not None:
        return open_tiles(path, tiles)
    if is_zarr(path):
        return open_zarr(path)
    if is_tiff(path):
        return open_tiff(path)
    return mosaic_from_array(path, decoding.read(path))
