"""TIFF of any kind as a mosaic: BigTIFF, tiled, OME-TIFF."""

import pathlib
from typing import Any, Literal

import defusedxml.ElementTree
import numpy as np
import tifffile
import zarr

from eal_icnet_jax.imaging.mosaics import UNITS, Mosaic, axes_reader, check_piece_size
from eal_icnet_jax.system.errors import UserError

MAX_PAGES = 2**14
"""Maximum number of pages of a TIFF."""

MAX_PIXEL_SIZE = 20
"""Largest believable side of a pixel in micrometres: a coarser resolution is a printer's."""

MICROMETRES_PER_RESOLUTION_UNIT = {2: 25400, 3: 10000}
"""Values of the tag ResolutionUnit: inch and centimetre."""


def open_tiff(path: pathlib.Path) -> Mosaic:
    """Open a TIFF whose first series is one image.

    Raises:
      UserError: it is cut off or damaged, or not an image that `axes_reader` takes.
    """
    try:
        _check_directories(path)
        file = tifffile.TiffFile(path)
        series = file.series[0]
        page = series.keyframe
        _check_extent(file, series)
        source: Any
        if series.dataoffset is not None:
            dtype = np.dtype(page.dtype).newbyteorder(file.byteorder)
            source = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
        else:
            source = zarr.open_array(series.aszarr(level=0), mode="r")
    except Exception as error:  # parsers raise errors of any type for arbitrary bytes
        raise UserError(f"{path} is cut off or damaged: copy it again") from error
    if series.dataoffset is None:
        check_piece_size(path, source)
    shape, read = axes_reader(path, source, series.axes, page)
    if page.bitspersample not in (1, 8, 16):
        raise UserError(f"{path} has {page.bitspersample} bits per channel: convert it to 8 or 16")
    try:
        pixel_size = _pixel_size(file, page)
    except Exception:  # damaged metadata do not state the size, the pixels may still be read
        pixel_size = None
    return Mosaic(path, shape, np.dtype(page.dtype), pixel_size, read)


def _check_directories(path: pathlib.Path):
    """Raise a `ValueError` if the chain of pages is circular or longer than `MAX_PAGES`.

    tifffile would follow a circular chain for ever.
    """
    with path.open("rb") as file:
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


def _pixel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Return height and width of a pixel in micrometres, from OME metadata or the resolution."""
    if file.is_ome:
        root = defusedxml.ElementTree.fromstring(file.ome_metadata)
        pixels: Any = next((node for node in root.iter() if node.tag.endswith("}Pixels")), {})
        height, width = (
            float(pixels.get(f"PhysicalSize{axis}", 0))
            * UNITS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0)
            for axis in "YX"
        )
        if min(height, width) > 0:
            return height, width
    unit = MICROMETRES_PER_RESOLUTION_UNIT.get(int(page.resolutionunit), 0)
    pixels_across, pixels_down = page.resolution
    if unit and min(pixels_across, pixels_down) > unit / MAX_PIXEL_SIZE:
        return unit / pixels_down, unit / pixels_across
    return None
