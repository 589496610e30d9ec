"""TIFF of any kind as a mosaic: BigTIFF, tiled, OME-TIFF, from a file or from bytes."""

import io
import math
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO, Literal

import numpy as np
import tifffile

from eal_icnet_jax.imaging import tiff_colours
from eal_icnet_jax.imaging.mosaics import (
    Mosaic,
    Reader,
    check_piece_size,
    check_pixel_count,
    plane_reader,
)
from eal_icnet_jax.imaging.orientation import upright
from eal_icnet_jax.imaging.tiff_metadata import TiffMetadata
from eal_icnet_jax.system.errors import UserError

MAX_PAGES = 2**14
"""Maximum number of pages of a TIFF."""

ORIENTATION_TAG = 274


class _ReadOnly(io.BytesIO):
    """Bytes that cannot be written. zarr refuses to open a store that could be as read-only."""

    def writable(self) -> bool:
        return False


def open_tiff(
    path: pathlib.Path, page_number: int | None = None, data: bytes | None = None
) -> Mosaic:
    """Open an image of a TIFF.

    Args:
      path: of the file, or the name of an image whose content is `data`.
      page_number: of the image, from 1; None if the file holds one. Reduced copies do not count.
      data: content of the file, if it is in memory.

    Raises:
      UserError: it is cut off or damaged, holds several images and none is named, or its pixels are
        of a kind that is not read.
    """
    try:
        _check_directories(path, data)
        file = tifffile.TiffFile(path if data is None else _ReadOnly(data))
        images = [series for series in file.series if not series.keyframe.is_reduced]
        images = images or file.series[:1]
        if not images:
            raise ValueError("it holds no image")
    except Exception as error:  # parsers raise errors of any type for arbitrary bytes
        raise _damaged(path) from error
    series, plane = _choose(path, images, page_number)
    page = series.keyframe
    if data is not None:
        check_pixel_count(str(path), (int(page.imagelength), int(page.imagewidth)))
    metadata = TiffMetadata(file, page, path.name)
    _check_parts(path, metadata, data is not None)
    convert = tiff_colours.converter(page, str(path))
    try:
        _check_extent(file, series)
        source = _open_pixels(path, data, file, series)
    except Exception as error:
        raise _damaged(path) from error
    if series.dataoffset is None:
        check_piece_size(path, source)
    shape, read_samples = plane_reader(path, source, series.axes, plane, most_samples=5)
    return _mosaic(path, metadata, page, shape, lambda *part: convert(read_samples(*part)))


def _damaged(path: pathlib.Path) -> UserError:
    return UserError(f"{path} is cut off or damaged: copy it again")


def _planes(series: tifffile.TiffPageSeries) -> int:
    """Return the number of images in a series."""
    sizes = [
        size
        for axis, size in zip(series.axes, series.shape, strict=True)
        if axis not in "YXS" and (axis, size) != ("C", 3)
    ]
    return math.prod(sizes)


def _choose(
    path: pathlib.Path, images: list[tifffile.TiffPageSeries], page_number: int | None
) -> tuple[tifffile.TiffPageSeries, int | None]:
    """Return the series that holds a page, and the number of the page's plane in it, from 0."""
    if page_number is None and len(images) == 1:
        return images[0], None
    counts = [_planes(series) for series in images]
    if page_number is None:
        sizes = ", ".join("x".join(map(str, series.shape)) for series in images[:4])
        more = ", ..." if len(images) > 4 else ""
        raise UserError(
            f"{path} holds {len(images)} images ({sizes}{more}): name one with --page, from 1 to "
            f"{sum(counts)}, or write the image alone"
        )
    plane = page_number - 1
    for series, count in zip(images, counts, strict=True):
        if 0 <= plane < count:
            return series, plane
        plane -= count
    raise UserError(f"{path} has {sum(counts)} pages, so there is no page {page_number}")


def _check_parts(path: pathlib.Path, metadata: TiffMetadata, in_memory: bool):
    """Raise a `UserError` if parts of an image lie in other files that are missing."""
    names = _stated(lambda: metadata.other_parts()) or []
    missing = [name for name in names if in_memory or not (path.parent / name).exists()]
    if missing:
        raise UserError(
            f"{path} is a part of an image whose other files are missing ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}): copy them beside it, or write the image alone"
        )


def _open_pixels(
    path: pathlib.Path,
    data: bytes | None,
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
) -> Any:
    """Return the samples of a series' finest level as an array that reads from the file."""
    if series.dataoffset is None:
        import zarr  # takes a fifth of a second, which other files need not wait for

        return zarr.open_array(series.aszarr(level=0), mode="r")
    dtype = np.dtype(series.keyframe.dtype).newbyteorder(file.byteorder)
    if data is None:
        return np.memmap(path, dtype, "r", series.dataoffset, series.shape)
    count = math.prod(series.shape)
    return np.frombuffer(data, dtype, count, series.dataoffset).reshape(series.shape)


def _mosaic(
    path: pathlib.Path,
    metadata: TiffMetadata,
    page: tifffile.TiffPage,
    shape: tuple[int, int],
    read: Reader,
) -> Mosaic:
    """Return the mosaic of a page, with what its metadata state."""
    notes = []
    size = _stated(metadata.pixel_size)
    image_height = _stated(metadata.image_height)
    if image_height and 0 < image_height < shape[0]:
        notes.append(f"the data bar in the last {shape[0] - image_height} rows is left out")
        shape = (image_height, shape[1])
        read = _cropped(read, image_height)
    tag = page.tags.get(ORIENTATION_TAG)
    orientation = tag.value if tag is not None and isinstance(tag.value, int) else 1
    shape, read, sides = upright(shape, read, size and (size.height, size.width), orientation)
    dtype = np.dtype(page.dtype)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        dtype = np.dtype(np.uint8)
    return Mosaic(
        path,
        shape,
        dtype,
        sides,
        read,
        pixel_size_source=size.source if size else "",
        white=_stated(metadata.white_level) if dtype == np.uint16 else None,
        notes=tuple(notes),
    )


def _stated(read: Callable[[], Any]) -> Any:
    """Return what metadata state, or None if they are damaged: the pixels may still be read."""
    try:
        return read()
    except Exception:
        return None


def _cropped(read: Reader, height: int) -> Reader:
    """Return a reader of an image's first rows."""
    return lambda rows, columns: read(slice(*rows.indices(height)[:2]), columns)


def _check_directories(path: pathlib.Path, data: bytes | None):
    """Raise a `ValueError` if the chain of pages is circular or longer than `MAX_PAGES`.

    tifffile would follow a circular chain for ever.
    """
    file: BinaryIO
    with path.open("rb") if data is None else io.BytesIO(data) as file:
        order: Literal["little", "big"] = "little" if file.read(2) == b"II" else "big"
        is_bigtiff = int.from_bytes(file.read(2), order) == 43
        count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if is_bigtiff else (2, 12, 4)
        file.seek(8 if is_bigtiff else 4)
        seen: set[int] = set()
        while offset := int.from_bytes(file.read(offset_bytes), order):
            if offset in seen or len(seen) == MAX_PAGES:
                raise ValueError("the chain of pages does not end")
            seen.add(offset)
            file.seek(offset)
            count = int.from_bytes(file.read(count_bytes), order)
            file.seek(min(offset + count_bytes + entry_bytes * count, 2**62))


def _check_extent(file: tifffile.TiffFile, series: tifffile.TiffPageSeries):
    """Raise a `ValueError` if strips or tiles of the finest level lie outside the file."""
    ends = [
        offset + count
        for page in series.levels[0].pages
        if page is not None
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    ]
    if not ends or max(ends) > file.filehandle.size:
        raise ValueError("strips or tiles are missing")
