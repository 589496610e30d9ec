"""Zarr and OME-Zarr as a mosaic."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr

from eal_icnet_jax.imaging import units
from eal_icnet_jax.imaging.mosaics import Mosaic, check_piece_size, plane_reader
from eal_icnet_jax.imaging.pixel_values import over_black
from eal_icnet_jax.imaging.units import PixelSize
from eal_icnet_jax.system.errors import UserError

SAFE_CODECS = {"blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta", "bytes",
               "transpose", "sharding_indexed", "crc32", "crc32c", "adler32",
               "fletcher32"}  # fmt: skip
"""Codecs that are read. Others may execute what they decode, as `pickle` does."""


def open_zarr(path: pathlib.Path, page: int | None = None) -> Mosaic:
    """Open a Zarr of version 2 or 3: an array, a group of one array, or the first OME-Zarr image.

    Args:
      path: folder of the Zarr.
      page: number of the plane, from 1; None if there is one.

    Raises:
      UserError: it is none of these, uses other codecs than `SAFE_CODECS`, or holds several planes
        and none is named.
    """
    try:
        array, axes, size = _open_array(path)
        codecs = set(_codec_names(array.metadata.to_dict()))
    except Exception as error:  # metadata may hold anything
        raise UserError(
            f"{path} is no Zarr of one image: name an array of rows and columns, or an OME-Zarr"
        ) from error
    if unsafe := codecs - SAFE_CODECS:
        raise UserError(
            f"{path} is encoded with {', '.join(sorted(unsafe))}, which is not read: write it with "
            "zstd"
        )
    check_piece_size(path, array)
    plane = None if page is None else page - 1
    shape, read = plane_reader(path, array, axes, plane, most_samples=4)
    return Mosaic(
        path,
        shape,
        array.dtype,
        size and (size.height, size.width),
        lambda *part: _grey_or_rgb(read(*part)),
        pixel_size_source=size.source if size else "",
    )


def _grey_or_rgb(samples: np.ndarray) -> np.ndarray:
    """Return bits as 0 and 255, and RGBA over black."""
    if samples.dtype == bool:
        return np.where(samples, np.uint8(255), np.uint8(0))
    if samples.ndim == 3 and samples.shape[2] == 4:
        white = np.iinfo(samples.dtype).max
        return over_black(samples[..., :3], samples[..., 3], white)
    return samples


def _open_array(path: pathlib.Path) -> tuple[zarr.Array, str, PixelSize | None]:
    """Return an image's array, its axes, one letter each, and its pixel size."""
    array: Any = zarr.open(str(path), mode="r")
    if isinstance(array, zarr.Group):
        group = array
        attributes: Any = group.attrs.asdict()
        attributes = attributes.get("ome", attributes)
        if "bioformats2raw.layout" in attributes and "multiscales" not in attributes:
            group = group["0"]  # bioformats2raw writes each image of a file as a numbered group
            attributes = group.attrs.asdict()
            attributes = attributes.get("ome", attributes)
        if multiscales := attributes.get("multiscales"):
            finest = multiscales[0]["datasets"][0]
            array = group[finest["path"]]
            return array, *_ome_axes(multiscales[0], array.ndim)
        ((_, array),) = group.arrays()
    return array, _plain_axes(array.shape), None


def _plain_axes(shape: tuple[int, ...]) -> str:
    """Return the axes of an array without metadata: planes come first unless samples are last."""
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3):
        return "YXS"
    return {2: "YX", 3: "CYX"}[len(shape)]


def _ome_axes(multiscale: dict, ndim: int) -> tuple[str, PixelSize | None]:
    """Return the axes of an OME-Zarr image, one letter each, and its pixel size.

    The size is the scale of the finest level times that of the whole pyramid.
    """
    axes: Any = multiscale.get("axes") or list("tczyx")[-ndim:]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    names = "".join(axis["name"][0].upper() for axis in axes)
    places = names.index("Y"), names.index("X")
    own = _scale(multiscale["datasets"][0], places)
    whole = _scale(multiscale, places)
    if own is None and whole is None:
        return names, None
    height, width = (
        a * b * (units.micrometres(axes[k].get("unit")) or 0)
        for a, b, k in zip(own or (1, 1), whole or (1, 1), places, strict=True)
    )
    return names, units.pixel_size(height, width, "OME-Zarr metadata")


def _scale(described: dict, places: tuple[int, int]) -> tuple[float, float] | None:
    """Return the scale of rows and columns among the coordinate transformations, or None."""
    for transform in described.get("coordinateTransformations") or ():
        if transform["type"] == "scale":
            return tuple(float(transform["scale"][k]) for k in places)
    return None


def _codec_names(metadata: dict) -> Iterator[str]:
    """Yield the names of all codecs in the metadata of a Zarr array, those within shards too."""
    codecs = [*(metadata.get("filters") or ()), metadata.get("compressor")]
    for key in ("codecs", "index_codecs"):
        codecs += metadata.get(key) or ()
    for codec in filter(None, codecs):
        name = codec.get("id") or codec.get("name")
        yield str(name).removeprefix("numcodecs.")
        yield from _codec_names(codec.get("configuration") or {})
