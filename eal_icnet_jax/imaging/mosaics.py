"""Mosaics: images too large to hold in memory, read part by part."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from eal_icnet_jax.system.errors import UserError

if TYPE_CHECKING:
    import zarr

CHUNK = 512
"""Side in pixels of the chunks and tiles in which mosaics are written."""

MAX_PIECE_BYTES = 2**29
"""Maximum size in bytes of a piece that a file stores as one and that is decoded at once."""

MAX_PIXELS = 2**28
"""Maximum pixel count of an image that is decoded at once, 16384x16384."""

Reader = Callable[[slice, slice], np.ndarray]
"""Takes slices of rows and columns, returns `[h, w]` or RGB `[h, w, 3]`, uint8 or uint16."""


@dataclasses.dataclass(frozen=True)
class Mosaic:
    """A large image. Indexing it with slices reads that part.

    Attributes:
      path: file or folder, or the name of an image that is in memory.
      shape: height and width.
      dtype: bool (one bit, read as uint8 of 0 and 255), uint8 or uint16.
      pixel_size: height and width of a pixel in micrometres, or None if the file does not state it.
      read: reads a part; indexing also reports damaged files.
      pixel_size_source: what states the pixel size.
      white: level of white that the file states, such as 4095 of 12 bits in 16; otherwise None.
      notes: a sentence for each thing about the file that a user should know.
      files: that hold its pixels, if `path` only names them.
      uncovered: returns which pixels of a part, `[h, w]` bool, no photograph covers; None if that
        is not known.
    """

    path: pathlib.Path
    shape: tuple[int, int]
    dtype: np.dtype
    pixel_size: tuple[float, float] | None
    read: Reader
    pixel_size_source: str = ""
    white: int | None = None
    notes: tuple[str, ...] = ()
    files: tuple[pathlib.Path, ...] = ()
    uncovered: Reader | None = None

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
        contents = self.path.rglob("*") if self.path.is_dir() else (self.path, *self.files)
        statuses = [path.stat() for path in contents if path.is_file()]
        return {
            "input": self.path.name,
            "shape": [*self.shape],
            "dtype": str(self.dtype),
            "bytes": sum(status.st_size for status in statuses),
            "changed_ns": max(status.st_mtime_ns for status in statuses),
        }


def check_pixel_count(name: str, shape: tuple[int, int]):
    """Raise a `UserError` if an image of this height and width is too large to decode at once."""
    height, width = shape
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{name} has {height}x{width} pixels (height x width) according to its header, too "
            "many to decode at once: write it as tiled TIFF or Zarr, which `eal-icnet predict` "
            "reads in parts"
        )


def slices_of(length: int, step: int) -> Iterator[slice]:
    """Yield slices of `step` that cover a length. The last may be shorter."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def blocks(shape: tuple[int, int], side: int = 4096) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of rows and columns that make up an image of a height and width."""
    return itertools.product(*(slices_of(length, side) for length in shape))


def image_with_pixel_size(images: Iterable[Mosaic], override: float | None) -> Mosaic | None:
    """Return the first image whose file states its pixel size, or None.

    Args:
      images: that must have pixels of one size.
      override: side of a pixel in micrometres that the user names, so that none is compared.

    Raises:
      UserError: two state different sizes, and the user names none.
    """
    first = None
    for image in images:
        if first is None and image.pixel_size:
            first = image
        if first is None or not image.pixel_size or override is not None:
            continue
        pairs = zip(first.pixel_size, image.pixel_size, strict=True)
        if any(abs(a - b) > 1e-3 * b for a, b in pairs):
            raise UserError(
                f"{first.path} has pixels of {first.pixel_size[1]:g} um, and {image.path} of "
                f"{image.pixel_size[1]:g} um: name --pixel-size"
            )
    return first


def mosaic_from_array(path: pathlib.Path, image: np.ndarray, **attributes) -> Mosaic:
    """Return an image `[H, W]` or `[H, W, 3]` as a mosaic.

    Args:
      path: that it was read from.
      image: uint8 or uint16.
      **attributes: of the mosaic.
    """
    attributes = {"pixel_size": None, **attributes}
    return Mosaic(
        path, image.shape[:2], image.dtype, read=lambda *index: image[index], **attributes
    )


def plane_reader(
    path: pathlib.Path, source, axes: str, plane: int | None = None, most_samples: int = 3
) -> tuple[tuple[int, int], Reader]:
    """Return height and width of an array with named axes, and the reader of one of its planes.

    Args:
      path: for error messages.
      source: a Zarr or NumPy array.
      axes: one letter per axis, such as YXS; S are the samples of a pixel, C channels.
      plane: number of the plane among those along the other axes, from 0; None if there is one.
      most_samples: largest number of samples that the caller can convert to grey or RGB.

    Returns:
      Height and width, and a reader whose parts are `[h, w]` or `[h, w, samples]`, native-endian.

    Raises:
      UserError: it is not an image of 1 bit, 8 or 16 bits, or has several planes and none is named.
    """
    axes = axes.upper()
    sizes = dict(zip(axes, source.shape, strict=True))
    shape = f"{path} has {'x'.join(map(str, source.shape))} values along {axes}"
    if not {"Y", "X"} <= sizes.keys() or len(sizes) < len(axes):
        raise UserError(f"{shape}, which is not an image: write one of height and width")
    if source.dtype.newbyteorder("=") not in (bool, np.uint8, np.uint16):
        raise UserError(f"{path} has {source.dtype} pixels: convert it to 8 or 16 bits per channel")
    channel = next((axis for axis in "SC" if sizes.get(axis, 1) > 1), None)
    if channel == "C" and sizes["C"] != 3:
        channel = None  # channels that are no colours are planes
    if channel and sizes[channel] > most_samples:
        raise UserError(f"{path} has {sizes[channel]} samples per pixel: convert it to grey or RGB")
    others = [axis for axis in axes if axis not in ("Y", "X", channel) and sizes[axis] > 1]
    counts = [sizes[axis] for axis in others]
    planes = math.prod(counts)
    if plane is None and planes > 1:
        raise UserError(
            f"{shape}, which are {planes} planes: name one with --page, from 1 to {planes}, or "
            "write the image alone"
        )
    if not 0 <= (plane or 0) < planes:
        raise UserError(f"{path} has {planes} pages, so there is no page {(plane or 0) + 1}")
    chosen = dict(zip(others, map(int, np.unravel_index(plane or 0, counts or [1])), strict=False))
    image_axes = [axis for axis in ("Y", "X", channel) if axis]
    stored_axes = [axis for axis in axes if axis in image_axes]
    order = [stored_axes.index(axis) for axis in image_axes]

    def read(rows: slice, columns: slice) -> np.ndarray:
        part = {"Y": rows, "X": columns, channel: slice(None), **chosen}
        out = np.asarray(source[tuple(part.get(axis, 0) for axis in axes)]).transpose(order)
        return np.ascontiguousarray(out, out.dtype.newbyteorder("="))

    return (sizes["Y"], sizes["X"]), read


def check_piece_size(path: pathlib.Path, array: "zarr.Array"):
    """Raise a `UserError` if a chunk of the array is larger than `MAX_PIECE_BYTES`."""
    size = int(np.prod(array.chunks)) * array.dtype.itemsize
    if size > MAX_PIECE_BYTES:
        raise UserError(
            f"{path} is stored in pieces of {size / 2**20:,.0f} MB, each of which is decoded at "
            "once: write it in tiles, for example with `vips tiffsave in.tif out.tif --tile "
            "--bigtiff`"
        )
