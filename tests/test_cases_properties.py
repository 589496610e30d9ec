"""What a file says does not depend on its format: pixels, masks and pixel sizes of any file."""

import pathlib
from collections.abc import Callable

import cv2
import hypothesis
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import strategies
from hypothesis.extra import numpy as arrays
from PIL import Image

from eal_icnet_jax.data.paired_folders import Pair, SourceFormat
from eal_icnet_jax.imaging import masks, mosaic_files, png
from tests import cases
from tests.test_cases import WHOLE, readings, written

QUICK = hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    # The folder of the test is used by all of its examples.
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)

Write = Callable[[pathlib.Path], object]
NamedWriter = tuple[str, Write]
"""File name and writer."""


def _write_png(image: np.ndarray) -> Write:
    data = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()
    return lambda path: path.write_bytes(data)


def _write_zarr(image: np.ndarray) -> Write:
    def write(path: pathlib.Path):
        array = zarr.create_array(
            zarr.storage.LocalStore(str(path)), shape=image.shape, dtype=image.dtype,
            chunks=(16, 16, *image.shape[2:]), overwrite=True,
        )  # fmt: skip
        array[...] = image

    return write


@strategies.composite
def tiffs(draw, image: np.ndarray) -> NamedWriter:
    """Draw a way to write a grey or RGB image as TIFF without loss."""
    options = {
        "compression": draw(
            strategies.sampled_from([None, "lzw", "deflate", "zstd", "packbits", "lzma"])
        ),
        "byteorder": draw(strategies.sampled_from("<>")),
        "bigtiff": draw(strategies.booleans()),
        "metadata": None,
    }
    if draw(strategies.booleans()):
        options["tile"] = (draw(strategies.sampled_from([16, 32])),) * 2
    else:
        options["rowsperstrip"] = draw(strategies.integers(1, 9))
    turn = draw(strategies.sampled_from([1, *cases.STORED]))
    stored = np.ascontiguousarray(cases.STORED.get(turn, np.asarray)(image))
    options["extratags"] = [(274, "H", 1, turn, True)]
    if image.ndim == 3:
        options["photometric"] = "rgb"
        if draw(strategies.booleans()):
            stored, options["planarconfig"] = np.moveaxis(stored, -1, 0), "separate"
    elif draw(strategies.booleans()):
        stored, options["photometric"] = np.iinfo(image.dtype).max - stored, "miniswhite"
    else:
        options["photometric"] = "minisblack"
    return "a.tif", lambda path: tifffile.imwrite(path, np.ascontiguousarray(stored), **options)


def files(image: np.ndarray) -> strategies.SearchStrategy[NamedWriter]:
    """Return ways to write a grey or RGB image of 8 or 16 bits without loss."""
    return strategies.one_of(
        strategies.just(("a.png", _write_png(image))),
        strategies.just(("a.zarr", _write_zarr(image))),
        tiffs(image),
    )


def images() -> strategies.SearchStrategy[np.ndarray]:
    """Return images `[H, W]` and `[H, W, 3]` of 8 and 16 bits, of 5 to 40 pixels a side.

    In fewer rows than samples, a Zarr array would not show which axis holds the samples.
    """
    sides = strategies.integers(5, 40)
    return strategies.tuples(
        strategies.sampled_from([np.uint8, np.uint16]),
        strategies.tuples(sides, sides),
        strategies.sampled_from([(), (3,)]),
    ).flatmap(lambda kind: arrays.arrays(kind[0], kind[1] + kind[2]))


@QUICK
@hypothesis.given(data=strategies.data(), image=images())
def test_an_image_reads_the_same_in_any_format(tmp_path, data, image):
    first, second = (data.draw(files(image)) for _ in range(2))
    expected = readings(written(tmp_path, "a.png", _write_png(image)))[0]
    for file_name, write in (first, second):
        for pixels in readings(written(tmp_path, file_name, write)):
            np.testing.assert_array_equal(pixels, expected)


def _palette_png(mask: np.ndarray, low: int, high: int) -> NamedWriter:
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([low] * 3 + [high, low, low])
    return "a.png", image.save


def _transparent_png(mask: np.ndarray) -> NamedWriter:
    white = np.full((*mask.shape, 3), 255, np.uint8)
    image = Image.fromarray(np.dstack([white, 255 * mask.astype(np.uint8)]))
    return "a.png", image.save


@strategies.composite
def masks_and_files(draw) -> tuple[np.ndarray, NamedWriter]:
    """Draw a mask of both kinds of pixels, and a way to write it."""
    mask = draw(_two_kinds())
    high = draw(strategies.sampled_from([1, 2, 100, 128, 255, 256, 1000, 65535]))
    low = draw(strategies.integers(0, min(high, 255) - 1))
    kind = draw(strategies.sampled_from(["grey", "bits", "numbers", "palette", "transparent"]))
    if kind == "bits":
        bits = Image.fromarray(mask)
        return mask, draw(strategies.sampled_from([("a.png", bits.save), ("a.tif", bits.save)]))
    if kind == "palette":
        return mask, _palette_png(mask, low % high % 255, min(high, 255))
    if kind == "transparent":
        return mask, _transparent_png(mask)
    if kind == "numbers":
        # Numbers of single pixels could as well be a blurred edge.
        mask = np.kron(mask, np.ones((4, 4), bool))
        numbers = cv2.connectedComponents(mask.astype(np.uint8))[1]
        return mask, draw(files(numbers.astype(np.uint16)))
    levels = np.where(mask, high, low).astype(np.uint8 if high < 256 else np.uint16)
    return mask, draw(files(levels))


def _two_kinds() -> strategies.SearchStrategy[np.ndarray]:
    sides = strategies.integers(2, 24)
    shapes = strategies.tuples(sides, sides)
    return shapes.flatmap(lambda shape: arrays.arrays(bool, shape)).filter(
        lambda mask: mask.any() and not mask.all()
    )


@QUICK
@hypothesis.given(drawn=masks_and_files())
def test_a_mask_reads_the_same_in_any_encoding(tmp_path, drawn):
    mask, (file_name, write) = drawn
    path = written(tmp_path, file_name, write)
    np.testing.assert_array_equal(masks.MosaicMask(mosaic_files.open_mosaic(path))[WHOLE], mask)
    if path.is_file():
        label = SourceFormat(channels=1).read(Pair("a", path, path)).masks["label"]
        np.testing.assert_array_equal(label, mask)


MICROMETRES = {
    "pm": 1e-6, "nm": 1e-3, "\u00b5m": 1, "\u03bcm": 1, "mm": 1e3, "cm": 1e4, "m": 1e6,
    "\u00c5": 1e-4, "in": 25400, "thou": 25.4,
    "picometer": 1e-6, "nanometer": 1e-3, "micrometer": 1, "millimeter": 1e3, "angstrom": 1e-4,
    "inch": 25400,
}  # fmt: skip

OME_UNITS = [unit for unit in MICROMETRES if len(unit) < 5 and unit != "inch"]
NGFF_UNITS = [unit for unit in MICROMETRES if unit not in OME_UNITS]
SIZES = strategies.floats(1e-3, 15)
"""Sides of pixels in micrometres."""


def _write_ngff(size: tuple[float, float], unit: str) -> NamedWriter:
    def write(path: pathlib.Path):
        group = zarr.open_group(str(path), mode="w", zarr_format=2)
        group.create_array("0", shape=(4, 4), chunks=(4, 4), dtype="u1")
        scale = [{"type": "scale", "scale": [side / MICROMETRES[unit] for side in size]}]
        axes = [{"name": name, "type": "space", "unit": unit} for name in "yx"]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]

    return "a.zarr", write


def _write_ome(size: tuple[float, float], unit: str) -> NamedWriter:
    metadata: dict[str, object] = {"axes": "YX"}
    for axis, side in zip("YX", size, strict=True):
        metadata[f"PhysicalSize{axis}"] = side / MICROMETRES[unit]
        metadata[f"PhysicalSize{axis}Unit"] = unit
    return "a.ome.tif", cases.tiff(np.eye(4, dtype=np.uint8), ome=True, metadata=metadata)


def _write_imagej(size: tuple[float, float], unit: str) -> NamedWriter:
    down, across = (MICROMETRES[unit] / side for side in size)
    image = np.eye(4, dtype=np.uint8)
    metadata = {"unit": unit.encode("unicode_escape").decode().replace("xb5", "u00B5")}
    return "a.tif", cases.tiff(image, imagej=True, resolution=(across, down), metadata=metadata)


def _write_resolution(size: tuple[float, float], unit: str) -> NamedWriter:
    down, across = (MICROMETRES[unit] / side for side in size)
    name = {"in": "INCH", "cm": "CENTIMETER"}[unit]
    image = np.eye(4, dtype=np.uint8)
    return "a.tif", cases.tiff(image, resolution=(across, down), resolutionunit=name)


SIZED_FORMATS = {
    "OME": (_write_ome, OME_UNITS, 1e-9),
    "NGFF": (_write_ngff, NGFF_UNITS, 1e-9),
    "ImageJ": (_write_imagej, ["nm", "\u00b5m", "mm", "cm"], 1e-6),
    "resolution": (_write_resolution, ["in", "cm"], 1e-6),
}
"""Writer, units, and the relative error of the numbers that the format stores."""


@pytest.mark.parametrize("kind", SIZED_FORMATS)
@QUICK
@hypothesis.given(data=strategies.data(), size=strategies.tuples(SIZES, SIZES))
def test_a_pixel_size_in_any_unit_is_kept(tmp_path, kind, data, size):
    write_sized, units, error = SIZED_FORMATS[kind]
    path = written(tmp_path, *write_sized(size, data.draw(strategies.sampled_from(units))))
    read = mosaic_files.open_mosaic(path)
    assert read.pixel_size == pytest.approx(size, rel=error)
    # A mask that is written from it states the same size, in whole pixels per metre.
    mask = path.with_name("mask.png")
    png.write(mask, np.eye(4, dtype=np.uint8), read.pixel_size)
    kept = mosaic_files.open_mosaic(mask).pixel_size
    assert kept == pytest.approx(size, rel=max(size) * 1e-6 + error)
