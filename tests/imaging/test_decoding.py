import io
import itertools
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from eal_icnet_jax.imaging import decoding, mosaic_files, pixel_values
from eal_icnet_jax.system.errors import UserError

GREY, RGB, RGBA = (20, 30), (20, 30, 3), (20, 30, 4)
FORMATS = [
    *itertools.product([".png", ".tiff"], [GREY, RGB, RGBA], ["uint8", "uint16"]),
    *itertools.product([".bmp", ".jpg"], [GREY, RGB], ["uint8"]),
]


@pytest.mark.parametrize(("suffix", "shape", "dtype"), FORMATS)
def test_every_format_and_depth_is_read(tmp_path, suffix, shape, dtype):
    image = np.tile(np.linspace(0, np.iinfo(dtype).max, 30), (20, 1))
    if len(shape) == 3:
        image = np.stack([image, image / 2, image / 4, image][: shape[2]], -1)
    image = image.astype(dtype)
    path = tmp_path / f"a{suffix}"
    bgra = [2, 1, 0, 3][: shape[2]] if shape[2:] else slice(None)
    assert cv2.imwrite(str(path), image[..., bgra] if shape[2:] else image)
    read, notes = decoding.decode(path.read_bytes(), "image")
    assert read.dtype == image.dtype and notes == ()
    expected = image[..., :3].astype(np.float64) if image.ndim == 3 else image
    if shape == RGBA:  # transparent pixels are over black
        expected = np.rint(expected * image[..., 3:] / np.iinfo(dtype).max)
    assert np.abs(read.astype(int) - expected).max() <= (6 if suffix == ".jpg" else 0)
    for channels in (1, 3):
        unit = pixel_values.to_unit_range(read, channels)
        assert unit.shape == (20, 30, channels) and unit.dtype == np.float32
        assert unit.min() >= 0 and 0.5 < unit.max() <= 1


@pytest.mark.parametrize(
    ("format", "modes"),
    [
        ("PNG", ("1", "L", "P", "RGB")),
        ("JPEG", ("L", "RGB", "CMYK")),
        ("BMP", ("1", "L", "P", "RGB")),
        ("TIFF", ("1", "L", "P", "RGB", "CMYK")),
    ],
)
def test_the_size_in_the_header_is_that_of_the_pixels(format, modes):
    for mode in modes:
        file = io.BytesIO()
        Image.new(mode, (31, 47)).save(file, format)
        if format != "TIFF":
            header = decoding.read_header(file.getvalue())
            assert (header.height, header.width) == (47, 31)
        assert decoding.open_encoded(file.getvalue(), "image").shape == (47, 31)


def jpeg_with_size(height: int, width: int) -> bytes:
    data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes())
    position = data.find(b"\xff\xc0") + 5
    data[position : position + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def test_no_limit_or_warning_of_pillow_applies():
    """Pillow warns above 89 million pixels and refuses 179 million, but decodes nothing here."""
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for side in (10_000, 16_384):
            header = decoding.read_header(jpeg_with_size(side, side))
            assert (header.height, header.width) == (side, side)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_damaged_exif_data_are_ignored():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x1a\x01\x05\0\xff\xff\0\0\xff\xff\xff\0\0\0\0\0"
    file = io.BytesIO()
    Image.new("L", (8, 9)).save(file, "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoding.open_encoded(file.getvalue(), "image").shape == (9, 8)


def test_an_image_beyond_the_limit_is_refused_by_its_header():
    with pytest.raises(UserError, match=r"big has 16384x16385 pixels .*: write it as tiled TIFF"):
        decoding.decode(jpeg_with_size(16384, 16385), "big")


def test_a_jpeg_that_is_cut_off_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    with pytest.raises(UserError, match="cannot be read as an image"):
        decoding.decode(data[: len(data) // 2], "image")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken.png", "cannot be read as an image: replace or remove the file"),
        ("empty.png", "cannot be read as an image: replace or remove the file"),
        ("float.tiff", "has float32 pixels: convert it to 8 or 16 bits"),
        ("none.png", "cannot be read: No such file"),
    ],
)
def test_bad_files_are_reported_with_their_path(tmp_path, name, message):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "empty.png").touch()
    floats = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    cv2.imwrite(str(tmp_path / "float.tiff"), floats)
    with pytest.raises(UserError, match=message) as caught:
        mosaic_files.open_mosaic(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
