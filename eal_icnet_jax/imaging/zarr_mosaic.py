"""Zarr and OME-Zarr as a mosaic."""

import pathlib
from collections.abc import Iterator
from typing import Any

import zarr

from eal_icnet_jax.imaging.mosaics import UNITS, Mosaic, axes_reader, check_piece_size
from eal_icnet_jax.system.errors import UserError

SAFE_CODECS = {"blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta", "bytes",
               "transpose", "sharding_indexed", "crc32", "crc32c", "adler32",
               "fletcher32"}  # fmt: skip
"""Codecs that are read. Others may execute what they decode, as `pickle` does."""


def open_zarr(path: pathlib.Path) -> Mosaic:
    """Open a Zarr of version 2 or 3: an array, a group of one array, or the first OME-Zarr image.

    Raises:
      UserError: it is none of these, or uses other codecs than `SAFE_CODECS`.
    """
    try:
        array, axes, pixel_size = _open_array(path)
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
    shape, read = axes_reader(path, array, axes)
    return Mosaic(path, shape, array.dtype, pixel_size, read)


def _open_array(path: pathlib.Path) -> tuple[zarr.Array, str, tuple[float, float] | None]:
    """Return an image's array, its axes, one letter each, and its pixel size."""
    array: Any = zarr.open(str(path), mode="r")
    if isinstance(array, zarr.Group):
        group = array
        attributes: Any = group.attrs.asdict()
        if multiscales := attributes.get("ome", attributes).get("multiscales"):
            finest = multiscales[0]["datasets"][0]
            array = group[finest["path"]]
            return array, *_ome_axes(multiscales[0], finest, array.ndim)
        ((_, array),) = group.arrays()
    planes_first = "CYX" if array.shape[0] in (1, 3) else "YXS"
    return array, {2: "YX", 3: planes_first}[array.ndim], None


def _ome_axes(multiscale: dict, dataset: dict, ndim: int) -> tuple[str, tuple[float, float] | None]:
    """Return the axes of an OME-Zarr image, one letter each, and its pixel size."""
    axes: Any = multiscale.get("axes") or list("tczyx")[-ndim:]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    names = "".join(axis["name"][0].upper() for axis in axes)
    transforms = dataset.get("coordinateTransformations", [])
    scale = next((t["scale"] for t in transforms if t["type"] == "scale"), None)
    if not scale:
        return names, None
    height, width = (
        scale[k] * UNITS.get(axes[k].get("unit"), 0) for k in (names.index("Y"), names.index("X"))
    )
    return names, (height, width) if min(height, width) > 0 else None


def _codec_names(metadata: dict) -> Iterator[str]:
    """Yield the names of all codecs in the metadata of a Zarr array, those within shards too."""
    codecs = [*(metadata.get("filters") or ()), metadata.get("compressor")]
    for key in ("codecs", "index_codecs"):
        codecs += metadata.get(key) or ()
    for codec in filter(None, codecs):
        name = codec.get("id") or codec.get("name")
        yield str(name).removeprefix("numcodecs.")
        yield from _codec_names(codec.get("configuration") or {})
