"""Mosaics: images too large to hold in memory, read part by part."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import tifffile
import zarr

from eal_icnet_jax.imaging import pixel_values
from eal_icnet_jax.system.errors import UserError

MAX_PIECE_BYTES = 2**29
"""Maximum size in bytes of a piece that a file stores as one and that is decoded at once."""

UNITS = {"nm": 1e-3, "nanometer": 1e-3, "µm": 1, "um": 1, "micrometer": 1, "mm": 1e3,
         "millimeter": 1e3, "Å": 1e-4, "angstrom": 1e-4, "cm": 1e4, "m": 1e6}  # fmt: skip
"""Units of length in micrometres, by their names in OME metadata."""

Reader = Callable[[slice, slice], np.ndarray]
"""Takes slices of rows and columns, returns `[h, w]` or RGB `[h, w, 3]`, uint8 or uint16."""


@dataclasses.dataclass(frozen=True)
class Mosaic:
    """A large image. Indexing it with slices reads that part.

    Attributes:
      path: file or folder.
      shape: height and width.
      dtype: bool (one bit, read as uint8 of 0 and 255), uint8 or uint16.
      pixel_size: height and width of a pixel in micrometres, or None if the file does not state it.
      read: reads a part; indexing also reports damaged files.
    """

    path: pathlib.Path
    shape: tuple[int, int]
    dtype: np.dtype
    pixel_size: tuple[float, float] | None
    read: Reader

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """Return a part, `[h, w]` or RGB `[h, w, 3]`.

        Raises:
          UserError: the file is damaged there.
        """
        try:
            return self.read(*index)
        except UserError:
            raise
        except Exception as error:  # decoders raise errors of any type
            rows, columns = index
            area = f"rows {rows.start}-{rows.stop}, columns {columns.start}-{columns.stop}"
            cause = f" ({error})" if len(str(error)) < 100 else ""
            raise UserError(f"{self.path} is damaged at {area}{cause}: copy it again") from error

    def stamp(self) -> dict:
        """Return a JSON object that changes with the image and whenever its files are changed."""
        contents = self.path.rglob("*") if self.path.is_dir() else (self.path,)
        statuses = [path.stat() for path in contents if path.is_file()]
        return {
            "input": self.path.name,
            "shape": [*self.shape],
            "dtype": str(self.dtype),
            "bytes": sum(status.st_size for status in statuses),
            "changed_ns": max(status.st_mtime_ns for status in statuses),
        }


class MosaicMask:
    """A mosaic as a bool mask `[H, W]`. Indexing it with slices reads that part."""

    def __init__(self, mosaic: Mosaic):
        self._mosaic = mosaic
        self.shape = mosaic.shape

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        return pixel_values.to_mask(self._mosaic[index])[0]


def mosaic_from_array(path: pathlib.Path, image: np.ndarray) -> Mosaic:
    """Return an image `[H, W]` or `[H, W, 3]` that was read from `path` as a mosaic."""
    return Mosaic(path, image.shape[:2], image.dtype, None, lambda *index: image[index])


def axes_reader(
    path: pathlib.Path, source, axes: str, page: tifffile.TiffPage | None = None
) -> tuple[tuple[int, int], Reader]:
    """Return height and width of an array with named axes, and its reader as a grey or RGB image.

    Args:
      path: for error messages.
      source: a Zarr or NumPy array.
      axes: one letter per axis, such as YXS; S are the samples of a pixel.
      page: of a TIFF, which may have a palette, or white as 0.

    Raises:
      UserError: it is not an image of 1 or 3 channels and 1, 8 or 16 bits.
    """
    axes = axes.upper()
    sizes = dict(zip(axes, source.shape, strict=True))
    shape = f"{path} has {'x'.join(map(str, source.shape))} values along {axes}"
    if not {"Y", "X"} <= sizes.keys() or len(sizes) < len(axes):
        raise UserError(f"{shape}, which is not an image: write one of height and width")
    if source.dtype.newbyteorder("=") not in (bool, np.uint8, np.uint16):
        raise UserError(f"{path} has {source.dtype} pixels: convert it to 8 or 16 bits per channel")
    channel = next((axis for axis in "SC" if sizes.get(axis, 1) > 1), None)
    if others := [axis for axis in axes if axis not in ("Y", "X", channel) and sizes[axis] > 1]:
        raise UserError(f"{shape}: choose one layer along {', '.join(others)}")
    if channel and sizes[channel] != 3 and (channel, sizes[channel]) != ("S", 4):
        raise UserError(f"{path} has {sizes[channel]} channels: convert it to grey or RGB")
    image_axes = [axis for axis in ("Y", "X", channel) if axis]
    stored_axes = [axis for axis in axes if axis in image_axes]
    order = [stored_axes.index(axis) for axis in image_axes]
    photometric = page.photometric if page else None
    palette = None
    if page and photometric == tifffile.PHOTOMETRIC.PALETTE:
        palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)

    def read(rows: slice, columns: slice) -> np.ndarray:
        part = {"Y": rows, "X": columns, channel: slice(0, 3)}
        out = np.asarray(source[tuple(part.get(axis, 0) for axis in axes)]).transpose(order)
        if palette is not None:
            return palette[out]
        out = np.where(out, np.uint8(255), np.uint8(0)) if out.dtype == bool else out
        out = np.ascontiguousarray(out, out.dtype.newbyteorder("="))
        if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            return np.iinfo(out.dtype).max - out
        return out

    return (sizes["Y"], sizes["X"]), read


def check_piece_size(path: pathlib.Path, array: zarr.Array):
    """Raise a `UserError` if a chunk of the array is larger than `MAX_PIECE_BYTES`."""
    size = int(np.prod(array.chunks)) * array.dtype.itemsize
    if size > MAX_PIECE_BYTES:
        raise UserError(
            f"{path} is stored in pieces of {size / 2**20:,.0f} MB, each of which is decoded at "
            "once: write it in tiles, for example with `vips tiffsave in.tif out.tif --tile "
            "--bigtiff`"
        )
