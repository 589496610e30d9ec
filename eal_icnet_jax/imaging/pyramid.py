"""OME-Zarr and OME-TIFF with a pyramid of halved images, written block by block."""

import itertools
import json
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tifffile
import zarr
from numcodecs import Zstd

from eal_icnet_jax.imaging.mosaics import CHUNK, slices_of


def level_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of a pyramid, each half of the one before, until it fits one chunk."""
    levels = [shape]
    while max(levels[-1][:2]) > CHUNK:
        levels.append((*(-(-size // 2) for size in levels[-1][:2]), *shape[2:]))
    return levels


def create_pyramid(
    path: pathlib.Path,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    pixel_size: tuple[float, float] | None,
) -> zarr.Group:
    """Create an OME-Zarr 0.4 with empty levels, in place of what is at `path`.

    Args:
      path: folder of the Zarr.
      name: of the image.
      shape: `[H, W]`, or `[H, W, 3]` for an image that `write_tiff` will write.
      dtype: of its pixels.
      pixel_size: height and width of a pixel in micrometres, or None if unknown.
    """
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    levels = level_shapes(shape)
    for k, level_shape in enumerate(levels):
        group.create_array(
            str(k),
            shape=level_shape,
            chunks=(CHUNK, CHUNK, *shape[2:]),
            dtype=dtype,
            fill_value=0,
            compressors=Zstd(level=3),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
    group.attrs["multiscales"] = [_multiscale(name, len(levels), pixel_size)]
    return group


def _multiscale(name: str, levels: int, pixel_size: tuple[float, float] | None) -> dict:
    """Return an image's entry in the OME-Zarr metadata."""
    unit = {"unit": "micrometer"} if pixel_size else {}
    scale = pixel_size or (1.0, 1.0)
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [2.0**k * float(size) for size in scale]}
            ],
        }
        for k in range(levels)
    ]
    axes = [{"name": axis, "type": "space", **unit} for axis in "yx"]
    return {"version": "0.4", "name": name, "axes": axes, "datasets": datasets, "type": "mean"}


def _halve(image: np.ndarray) -> np.ndarray:
    """Return the means of 2x2 pixels. An odd last row or column is repeated."""
    height, width = image.shape[:2]
    image = np.pad(image, ((0, height % 2), (0, width % 2), *((0, 0),) * (image.ndim - 2)), "edge")
    size = image.shape[1] // 2, image.shape[0] // 2
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _levels(group: zarr.Group) -> list[zarr.Array]:
    """Return the arrays of a pyramid, finest first."""
    multiscales: Any = group.attrs["multiscales"]
    return [group[dataset["path"]] for dataset in multiscales[0]["datasets"]]


def chunk_folders(path: pathlib.Path, rows: slice) -> list[pathlib.Path]:
    """Return the folders of the files that hold these rows of the finest level of a pyramid.

    Chunks that are all zero have no file, so a folder may be missing.
    """
    first, end = rows.start // CHUNK, -(-rows.stop // CHUNK)
    folders = (path / "0" / str(row) for row in range(first, end))
    return [folder for folder in folders if folder.is_dir()]


def fill_levels(group: zarr.Group):
    """Compute the coarser levels of a pyramid from the finest, block by block."""
    for finer, coarser in itertools.pairwise(_levels(group)):
        for rows in slices_of(coarser.shape[0], CHUNK):
            for columns in slices_of(coarser.shape[1], 8 * CHUNK):
                source = tuple(slice(2 * part.start, 2 * part.stop) for part in (rows, columns))
                coarser[rows, columns] = _halve(np.asarray(finer[source]))


def _tiles(array: zarr.Array) -> Iterator[np.ndarray]:
    """Yield an array's tiles `[CHUNK, CHUNK, ...]` in row order, padded with zeros."""
    for rows in slices_of(array.shape[0], CHUNK):
        strip = np.asarray(array[rows])
        for columns in slices_of(array.shape[1], CHUNK):
            tile = np.zeros((CHUNK, CHUNK, *array.shape[2:]), array.dtype)
            part = strip[:, columns]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def write_tiff(
    group: zarr.Group,
    path: pathlib.Path,
    pixel_size: tuple[float, float] | None,
    description: dict,
):
    """Write a filled pyramid as OME-TIFF: a tiled BigTIFF with all levels.

    Equal pixels and descriptions give equal bytes.

    Args:
      group: as `create_pyramid` and `fill_levels` made it.
      path: file to write.
      pixel_size: height and width of a pixel in micrometres, or None if unknown.
      description: kept as JSON in the image's OME description.
    """
    levels = _levels(group)
    text = json.dumps(description, ensure_ascii=False)
    metadata: dict[str, Any] = {
        "axes": "YXS"[: levels[0].ndim],
        "Name": path.name.split(".")[0],
        "Description": text,
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, text)),
    }
    if pixel_size:
        for axis, size in zip("YX", pixel_size, strict=True):
            metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "µm"}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        for k, level in enumerate(levels):
            options: dict[str, Any] = {"subfiletype": 1, "metadata": None}
            if k == 0:
                options = {"subifds": len(levels) - 1, "metadata": metadata}
            if pixel_size:
                per_cm = tuple(1e4 / (size * 2**k) for size in pixel_size[::-1])
                options |= {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
            file.write(
                _tiles(level),
                shape=level.shape,
                dtype=level.dtype,
                tile=(CHUNK, CHUNK),
                photometric="rgb" if level.ndim == 3 else "minisblack",
                compression="zlib",
                **options,
            )
