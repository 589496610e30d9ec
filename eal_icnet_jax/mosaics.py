"""Mosaics: stitched images too large to hold, read and written piece by piece.

Reads TIFF of any kind (BigTIFF, tiled, OME-TIFF), Zarr (OME-Zarr too), a folder of tiles whose
names tell their places, and whatever `images` reads. Writes OME-Zarr 0.4 and OME-TIFF, tiled, each
with a pyramid of halved images.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import re
import uuid
from collections.abc import Callable, Iterator

import cv2
import defusedxml.ElementTree
import numpy as np
import tifffile
import zarr
from numcodecs import Zstd

from eal_icnet_jax import images
from eal_icnet_jax.errors import UserError

CHUNK = 512
"""Side in pixels of the pieces in which mosaics are written."""

MOST_PAGES = 2**14
"""Of a TIFF."""

LARGEST_PIECE = 2**29
"""Bytes that a file may make one decode at once."""

PRINTERS = 20
"""Micrometres a pixel from which a TIFF's resolution is taken for a printer's."""

UNITS = {"nm": 1e-3, "nanometer": 1e-3, "µm": 1, "um": 1, "micrometer": 1, "mm": 1e3,
         "millimeter": 1e3, "Å": 1e-4, "angstrom": 1e-4, "cm": 1e4, "m": 1e6}  # fmt: skip
CODECS = {"blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta", "bytes",
          "transpose", "sharding_indexed", "crc32", "crc32c", "adler32", "fletcher32"}  # fmt: skip
"""Codecs of a Zarr that are read. Others may execute what they decode, as `pickle` does."""


@dataclasses.dataclass(frozen=True)
class Mosaic:
    """A large image, read where it is looked at.

    path: of the file or folder.
    shape: height and width.
    dtype: bool (one bit, read as uint8 of 0 and 255), uint8 or uint16.
    pixel_size: height and width of a pixel in micrometres, where the file tells.
    read: takes slices of rows and columns, returns `[h, w]` or RGB `[h, w, 3]`.
    """

    path: pathlib.Path
    shape: tuple[int, int]
    dtype: np.dtype
    pixel_size: tuple[float, float] | None
    read: Callable[[slice, slice], np.ndarray]

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """`[h, w]` or RGB `[h, w, 3]`; a `UserError` where the file is damaged."""
        try:
            return self.read(*index)
        except UserError:
            raise
        except Exception as error:  # of whichever decoder
            rows, columns = index
            where = f"rows {rows.start}-{rows.stop}, columns {columns.start}-{columns.stop}"
            told = f" ({error})" if len(str(error)) < 100 else ""
            raise UserError(f"{self.path} is damaged at {where}{told}: copy it again") from error

    def stamp(self) -> dict:
        """What tells it from another, or from itself before one of its files was changed."""
        within = self.path.rglob("*") if self.path.is_dir() else (self.path,)
        found = [path.stat() for path in within if path.is_file()]
        return {
            "input": self.path.name,
            "shape": [*self.shape],
            "dtype": str(self.dtype),
            "bytes": sum(status.st_size for status in found),
            "changed_ns": max(status.st_mtime_ns for status in found),
        }


class Mask:
    """A mosaic as a mask `[H, W]` of booleans that is read where it is sliced."""

    def __init__(self, mosaic: Mosaic):
        self._mosaic = mosaic
        self.shape = mosaic.shape

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        return images.to_mask(self._mosaic[index])[0]


def name_of(path: pathlib.Path) -> str:
    """The name of an image's file without its endings, `.ome` among them."""
    endings = "|".join(map(re.escape, (*images.SUFFIXES, ".zarr")))
    return re.sub(rf"(\.ome)?({endings})$", "", images.name_of(path, whole=True), flags=re.I)


def is_zarr(path: pathlib.Path) -> bool:
    return any((path / name).is_file() for name in (".zarray", ".zgroup", "zarr.json"))


def is_tiff(path: pathlib.Path) -> bool:
    """Whether a file begins as TIFF or BigTIFF do."""
    try:
        with path.open("rb") as file:
            return file.read(4) in images.TIFF
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def find(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder: files, and Zarrs, sorted by name.

    Raises:
      UserError: as `images.find`.
    """
    zarrs = [path for path in sorted(folder.glob("*.zarr")) if is_zarr(path)]
    try:
        return sorted([*images.find(folder), *zarrs])
    except UserError:
        others = [path for path in folder.glob("*") if path.suffix.lower() in images.SUFFIXES]
        if zarrs and not others:
            return zarrs
        raise


def open_mosaic(path: pathlib.Path, tiles: str | None = None) -> Mosaic:
    """Opens an image of any size.

    Args:
      path: an image file, a Zarr, or with `tiles` a folder.
      tiles: names of the folder's tiles, `{row}` and `{column}` standing for numbers.

    Raises:
      UserError: it cannot be read, or is of another depth, or has other channels than grey or RGB.
    """
    if tiles is not None:
        return _open_tiles(path, tiles)
    if is_zarr(path):
        return _open_zarr(path)
    if is_tiff(path):
        return _open_tiff(path)
    return of_array(path, images.read(path))


def of_array(path: pathlib.Path, image: np.ndarray) -> Mosaic:
    """An image `[H, W]` or `[H, W, 3]` in memory, which came from a path, as a mosaic."""

    def read(rows, columns):
        return image[rows, columns]

    return Mosaic(path, image.shape[:2], image.dtype, None, read)


def _reader(
    path: pathlib.Path, source, axes: str, page: tifffile.TiffPage | None = None
) -> tuple[tuple[int, int], Callable]:
    """Height and width, and how an array with named axes is read as grey or RGB.

    Args:
      path: for errors.
      source: anything that slices like an array.
      axes: a letter each; S are a pixel's samples.
      page: of a TIFF, which may have a palette, or white as 0.

    Raises:
      UserError: it is no image of 1 or 3 channels and 1, 8 or 16 bits.
    """
    axes = axes.upper()
    sizes = dict(zip(axes, source.shape, strict=True))
    told = f"{path} has {'x'.join(map(str, source.shape))} values along {axes}"
    if not {"Y", "X"} <= sizes.keys() or len(sizes) < len(axes):
        raise UserError(f"{told}, which is no image: write one of height and width")
    if source.dtype.newbyteorder("=") not in (bool, np.uint8, np.uint16):
        raise UserError(f"{path} has {source.dtype} pixels: convert it to 8 or 16 bits per channel")
    channel = next((axis for axis in "SC" if sizes.get(axis, 1) > 1), None)
    if others := [axis for axis in axes if axis not in ("Y", "X", channel) and sizes[axis] > 1]:
        raise UserError(f"{told}: choose one layer along {', '.join(others)}")
    if channel and sizes[channel] != 3 and (channel, sizes[channel]) != ("S", 4):
        raise UserError(f"{path} has {sizes[channel]} channels: convert it to grey or RGB")
    order = [axis for axis in axes if axis in ("Y", "X", channel)]
    photometric = page and page.photometric
    colours = None
    if photometric == tifffile.PHOTOMETRIC.PALETTE:
        colours = (page.colormap.T >> 8).astype(np.uint8)

    def read(rows, columns):
        part = {"Y": rows, "X": columns, channel: slice(0, 3)}
        out = np.asarray(source[tuple(part.get(axis, 0) for axis in axes)])
        out = out.transpose([order.index(axis) for axis in ("Y", "X", channel) if axis])
        if colours is not None:
            return colours[out]
        out = np.where(out, np.uint8(255), np.uint8(0)) if out.dtype == bool else out
        out = np.ascontiguousarray(out, out.dtype.newbyteorder("="))
        if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            return np.iinfo(out.dtype).max - out
        return out

    return (sizes["Y"], sizes["X"]), read


def _check_pieces(path: pathlib.Path, array: zarr.Array):
    size = int(np.prod(array.chunks)) * array.dtype.itemsize
    if size > LARGEST_PIECE:
        raise UserError(
            f"{path} is stored in pieces of {size / 2**20:,.0f} MB, each to be decoded at once: "
            "write it in tiles, for example with `vips tiffsave in.tif out.tif --tile --bigtiff`"
        )


def _check_directories(path: pathlib.Path):
    """Raises a `ValueError` where the pages lead in a circle, or are more than `MOST_PAGES`."""
    with path.open("rb") as file:
        order = "little" if file.read(2) == b"II" else "big"
        large = int.from_bytes(file.read(2), order) == 43
        entries, entry, link = (8, 20, 8) if large else (2, 12, 4)
        file.seek(8 if large else 4)
        seen = set()
        while at := int.from_bytes(file.read(link), order):
            if at in seen or len(seen) == MOST_PAGES:
                raise ValueError("its pages do not end")
            seen.add(at)
            file.seek(at)
            count = int.from_bytes(file.read(entries), order)
            file.seek(min(at + entries + entry * count, 2**62))


def _open_tiff(path: pathlib.Path) -> Mosaic:
    try:
        _check_directories(path)
        file = tifffile.TiffFile(path)
        series = file.series[0]
        page = series.keyframe
        ends = [
            offset + count
            for part in series.levels[0].pages
            if part is not None
            for offset, count in zip(part.dataoffsets, part.databytecounts, strict=False)
        ]
        if not ends or max(ends) > file.filehandle.size:
            raise ValueError("its pieces are not there")
        if series.dataoffset is not None:
            dtype = np.dtype(page.dtype).newbyteorder(file.byteorder)
            source = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
        else:
            source = zarr.open_array(series.aszarr(level=0), mode="r")
    except Exception as error:  # of whatever the bytes happen to mean
        raise UserError(f"{path} is cut off or damaged: copy it again") from error
    if series.dataoffset is None:
        _check_pieces(path, source)
    shape, read = _reader(path, source, series.axes, page)
    if page.bitspersample not in (1, 8, 16):
        raise UserError(f"{path} has {page.bitspersample} bits per channel: convert it to 8 or 16")
    try:
        pixel_size = _tiff_pixel_size(file, page)
    except Exception:  # of whatever its metadata say: then they do not tell
        pixel_size = None
    return Mosaic(path, shape, np.dtype(page.dtype), pixel_size, read)


def _tiff_pixel_size(file: tifffile.TiffFile, page: tifffile.TiffPage):
    if file.is_ome:
        root = defusedxml.ElementTree.fromstring(file.ome_metadata)
        found = next((node for node in root.iter() if node.tag.endswith("}Pixels")), {})
        sizes = [
            float(found.get(f"PhysicalSize{axis}", 0))
            * UNITS.get(found.get(f"PhysicalSize{axis}Unit", "µm"), 0)
            for axis in "YX"
        ]
        if min(sizes) > 0:
            return tuple(sizes)
    unit = {2: 25400, 3: 10000}.get(int(page.resolutionunit), 0)
    across, down = page.resolution
    if unit and min(across, down) > unit / PRINTERS:
        return unit / down, unit / across
    return None


def _open_zarr(path: pathlib.Path) -> Mosaic:
    try:
        found = zarr.open(str(path), mode="r")
        axes, pixel_size = None, None
        if isinstance(found, zarr.Group):
            attributes = dict(found.attrs)
            scales = attributes.get("ome", attributes).get("multiscales", [])
            if scales:
                level = scales[0]["datasets"][0]
                array = found[level["path"]]
                axes, pixel_size = _ome_axes(scales[0], level, array.ndim)
            else:
                ((_, array),) = found.arrays()
        else:
            array = found
        axes = axes or {2: "YX", 3: "CYX" if array.shape[0] in (1, 3) else "YXS"}[array.ndim]
        names = set(_codecs(array.metadata.to_dict()))
    except Exception as error:  # of whatever its metadata say
        raise UserError(
            f"{path} is no Zarr of one image: name an array of rows and columns, or an OME-Zarr"
        ) from error
    if unknown := names - CODECS:
        told = ", ".join(sorted(unknown))
        raise UserError(f"{path} is encoded with {told}, which is not read: write it with zstd")
    _check_pieces(path, array)
    shape, read = _reader(path, array, axes)
    return Mosaic(path, shape, array.dtype, pixel_size, read)


def _codecs(described: dict) -> Iterator[str]:
    """Names of the codecs in the metadata of a Zarr array, 2 or 3, those of shards among them."""
    found = [*(described.get("filters") or ()), described.get("compressor")]
    for key in ("codecs", "index_codecs"):
        found += described.get(key) or ()
    for codec in filter(None, found):
        if isinstance(codec, dict):
            name = codec.get("id") or codec.get("name")
            yield from _codecs(codec.get("configuration") or {})
        else:  # as Zarr before 3.1 has them
            name = codec.codec_id
        yield str(name).removeprefix("numcodecs.")


def _ome_axes(scales: dict, level: dict, ndim: int):
    """Axes of an OME-Zarr, and its pixels' size."""
    axes = scales.get("axes") or list("tczyx")[-ndim:]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    names = "".join(axis["name"][0].upper() for axis in axes)
    transforms = level.get("coordinateTransformations", [])
    scale = next((t["scale"] for t in transforms if t["type"] == "scale"), None)
    sizes = [
        scale[k] * UNITS.get(axes[k].get("unit"), 0)
        for k in (names.index("Y"), names.index("X"))
        if scale
    ]
    return names, tuple(sizes) if sizes and min(sizes) > 0 else None


def _open_tiles(folder: pathlib.Path, pattern: str) -> Mosaic:
    if sorted(re.findall(r"{(\w*)}", pattern)) != ["column", "row"]:
        raise UserError(f"--tiles is {pattern}: name tiles as in tile_{{row}}_{{column}}.png")
    escaped = re.escape(pattern)
    for key in ("row", "column"):
        escaped = escaped.replace(re.escape(f"{{{key}}}"), rf"(?P<{key}>\d+)")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds tiles")
    found = {
        (int(match["row"]), int(match["column"])): path
        for path in sorted(folder.iterdir())
        if (match := re.fullmatch(escaped, path.name))
    }
    if not found:
        raise UserError(f"{folder} holds no file named as {pattern}")
    rows, columns = (sorted({place[k] for place in found}) for k in (0, 1))
    rows, columns = range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1)
    missing = [(row, column) for row in rows for column in columns if (row, column) not in found]
    if missing:
        some = ", ".join(f"row {row} column {column}" for row, column in missing[:3])
        raise UserError(f"{folder} lacks {len(missing)} tiles of its grid ({some}): add them")

    @functools.lru_cache(2 * len(columns))
    def tile(row, column):
        return images.read(found[row, column])

    first = tile(rows[0], columns[0])
    height, width = first.shape[:2]
    last = tile(rows[-1], columns[-1]).shape
    shape = (len(rows) - 1) * height + last[0], (len(columns) - 1) * width + last[1]

    def read(wanted_rows, wanted_columns):
        y0, y1, _ = wanted_rows.indices(shape[0])
        x0, x1, _ = wanted_columns.indices(shape[1])
        out = np.empty((y1 - y0, x1 - x0, *first.shape[2:]), first.dtype)
        for i in range(y0 // height, -(-y1 // height)):
            for j in range(x0 // width, -(-x1 // width)):
                place = rows[i], columns[j]
                size = (
                    last[0] if place[0] == rows[-1] else height,
                    last[1] if place[1] == columns[-1] else width,
                )
                part = tile(*place)
                if part.shape != size + first.shape[2:] or part.dtype != first.dtype:
                    raise UserError(
                        f"{found[place]} is {'x'.join(map(str, part.shape))} {part.dtype} and not "
                        f"{'x'.join(map(str, size + first.shape[2:]))} {first.dtype} as the others"
                    )
                top, left = i * height, j * width
                bottom, right = min(top + size[0], y1), min(left + size[1], x1)
                a, b = max(top, y0), max(left, x0)
                out[a - y0 : bottom - y0, b - x0 : right - x0] = part[
                    a - top : bottom - top, b - left : right - left
                ]
        return out

    return Mosaic(folder, shape, first.dtype, None, read)


def levels_of(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes of a pyramid: each half of the one before, until it is one piece."""
    levels = [shape]
    while max(levels[-1][:2]) > CHUNK:
        levels.append((*(-(-size // 2) for size in levels[-1][:2]), *shape[2:]))
    return levels


def create(
    path: pathlib.Path,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    pixel_size: tuple[float, float] | None,
) -> zarr.Group:
    """A new OME-Zarr 0.4 with empty levels; what was there is removed.

    Args:
      path: of the Zarr.
      name: of the image.
      shape: `[H, W]`, or `[H, W, 3]` on the way to a TIFF.
      dtype: of its pixels.
      pixel_size: height and width in micrometres.
    """
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    levels = levels_of(shape)
    for k, size in enumerate(levels):
        group.create_array(
            str(k), shape=size, chunks=(CHUNK, CHUNK, *shape[2:]), dtype=dtype, fill_value=0,
            compressors=Zstd(level=3), chunk_key_encoding={"name": "v2", "separator": "/"},
        )  # fmt: skip
    unit = {"unit": "micrometer"} if pixel_size else {}
    scale = pixel_size or (1.0, 1.0)
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [2.0**k * float(size) for size in scale]}
            ],
        }
        for k in range(len(levels))
    ]
    axes = [{"name": name, "type": "space", **unit} for name in "yx"]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "name": name,
            "axes": axes,
            "datasets": datasets,
            "type": "mean",
        }
    ]
    return group


def _halved(image: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels; an odd last row or column is repeated."""
    height, width = image.shape[:2]
    image = np.pad(image, ((0, height % 2), (0, width % 2), *((0, 0),) * (image.ndim - 2)), "edge")
    size = image.shape[1] // 2, image.shape[0] // 2
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def pieces(length: int, step: int) -> Iterator[slice]:
    """Slices of `step`, the last of what is left, that make up a length."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _levels(group: zarr.Group) -> list[zarr.Array]:
    """The arrays of what `create` made, finest first."""
    return [group[dataset["path"]] for dataset in group.attrs["multiscales"][0]["datasets"]]


def folders(path: pathlib.Path, rows: slice) -> list[pathlib.Path]:
    """Of the files that hold these rows of the finest level of what `create` made."""
    of_rows = (path / "0" / str(row) for row in range(rows.start // CHUNK, -(-rows.stop // CHUNK)))
    return [folder for folder in of_rows if folder.is_dir()]  # nothing is written of zeros


def fill_levels(group: zarr.Group):
    """Computes the smaller levels of a pyramid from the first, piece by piece."""
    for finer, coarser in itertools.pairwise(_levels(group)):
        for rows in pieces(coarser.shape[0], CHUNK):
            for columns in pieces(coarser.shape[1], 8 * CHUNK):
                double = (slice(2 * part.start, 2 * part.stop) for part in (rows, columns))
                coarser[rows, columns] = _halved(finer[tuple(double)])


def _tiles(array: zarr.Array) -> Iterator[np.ndarray]:
    for rows in pieces(array.shape[0], CHUNK):
        row = array[rows]
        for columns in pieces(array.shape[1], CHUNK):
            tile = np.zeros((CHUNK, CHUNK, *array.shape[2:]), array.dtype)
            part = row[:, columns]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def write_tiff(
    group: zarr.Group,
    path: pathlib.Path,
    pixel_size: tuple[float, float] | None,
    description: dict,
):
    """Writes what `create` and `fill_levels` made as OME-TIFF: BigTIFF, tiled, with its pyramid.

    Equal pixels and descriptions give equal bytes.

    Args:
      group: of the levels.
      path: of the file.
      pixel_size: height and width in micrometres.
      description: kept as JSON in the image's OME description.
    """
    levels = _levels(group)
    text = json.dumps(description, ensure_ascii=False)
    metadata = {
        "axes": "YXS"[: levels[0].ndim],
        "Name": path.name.split(".")[0],
        "Description": text,
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, text)),
    }
    if pixel_size:
        for axis, size in zip("YX", pixel_size, strict=True):
            metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "µm"}
    photometric = "rgb" if levels[0].ndim == 3 else "minisblack"
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        for k, level in enumerate(levels):
            options = {"subifds": len(levels) - 1, "metadata": metadata} if k == 0 else {
                "subfiletype": 1, "metadata": None
            }  # fmt: skip
            if pixel_size:
                per_cm = [1e4 / (size * 2**k) for size in pixel_size[::-1]]
                options |= {"resolution": tuple(per_cm), "resolutionunit": "CENTIMETER"}
            file.write(
                _tiles(level), shape=level.shape, dtype=level.dtype, tile=(CHUNK, CHUNK),
                photometric=photometric, compression="zlib", **options,
            )  # fmt: skip
