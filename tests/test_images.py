"""Image files: every format and depth, labels, and what is refused."""

import itertools
import pathlib

import cv2
import numpy as np
import pytest

from eal_icnet_jax import images
from eal_icnet_jax.errors import UserError

RNG = np.random.default_rng(0)


GREY, RGB, RGBA = (20, 30), (20, 30, 3), (20, 30, 4)
FORMATS = [
    *itertools.product([".png", ".tiff"], [GREY, RGB, RGBA], ["uint8", "uint16"]),
    *itertools.product([".bmp", ".jpg"], [GREY, RGB], ["uint8"]),
]


@pytest.mark.parametrize(("suffix", "shape", "dtype"), FORMATS)
def test_formats(tmp_path, suffix, shape, dtype):
    top = np.iinfo(dtype).max
    image = np.tile(np.linspace(0, top, 30), (20, 1))
    if len(shape) == 3:
        image = np.stack([image, image / 2, image / 4, image][: shape[2]], -1)
    image = image.astype(dtype)
    order = [2, 1, 0, 3]
    assert cv2.imwrite(
        str(tmp_path / f"a{suffix}"), image[..., order[: shape[2]]] if shape[2:] else image
    )
    read = images.read(tmp_path / f"a{suffix}")
    assert read.dtype == image.dtype
    want = image[..., :3] if image.ndim == 3 else image
    assert np.abs(read.astype(int) - want).max() <= (6 if suffix == ".jpg" else 0)
    for channels in (1, 3):
        unit = images.to_unit_range(read, channels)
        assert unit.shape == (20, 30, channels) and unit.dtype == np.float32
        assert unit.min() >= 0 and 0.5 < unit.max() <= 1


def test_grey_is_the_luma_of_itu_r_601():
    colour = np.array([[[200, 100, 50]]], np.uint8)
    assert images.to_unit_range(colour, 1)[0, 0, 0] * 255 == pytest.approx(124.2, abs=0.5)


@pytest.mark.parametrize(
    ("label", "mask", "two_levels"),
    [
        ([[0, 255]], [[False, True]], True),
        ([[0, 1]], [[False, True]], True),
        ([[0, 0]], [[False, False]], True),
        ([[255, 255]], [[True, True]], True),
        ([[128, 129]], [[False, True]], False),
        ([[0, 200]], [[False, True]], False),
        ([[0, 100]], [[False, False]], False),
    ],
)
def test_labels(label, mask, two_levels):
    got, clean = images.to_mask(np.array(label, np.uint8))
    np.testing.assert_array_equal(got, mask)
    assert clean is two_levels


def test_labels_of_16_bits_and_colour():
    wide = np.array([[0, 65535]], np.uint16)
    colour = np.repeat(np.array([[[0], [255]]], np.uint8), 3, -1)
    for label in (wide, colour):
        mask, clean = images.to_mask(label)
        np.testing.assert_array_equal(mask, [[False, True]])
        assert clean
    mask, clean = images.to_mask(np.array([[128 * 257, 128 * 257 + 1]], np.uint16))
    np.testing.assert_array_equal(mask, [[False, True]])
    assert not clean


def test_bad_files_are_told(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "empty.png").touch()
    floats = RNG.random((8, 8)).astype(np.float32)
    cv2.imwrite(str(tmp_path / "float.tiff"), floats)
    for name, told in [
        ("broken.png", "cannot be read as an image"),
        ("empty.png", "cannot be read as an image"),
        ("float.tiff", "has float32 pixels: convert it to 8 or 16 bits"),
        ("none.png", "cannot be read: No such file"),
    ]:
        with pytest.raises(UserError, match=told):
            images.read(tmp_path / name)
    with pytest.raises(UserError, match="1 or 3 channels, but the model takes 2"):
        images.to_unit_range(np.zeros((4, 4), np.uint8), 2)


def test_written_masks_are_whole_or_not_there(tmp_path):
    image = RNG.integers(0, 255, (9, 7, 3)).astype(np.uint8)
    images.write(tmp_path / "a.png", image)
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), image)
    with pytest.raises(UserError, match="cannot be written"):
        images.write(tmp_path / "none" / "a.png", image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def touch(folder: pathlib.Path, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_pairs(tmp_path):
    touch(tmp_path / "image", "b.JPG", "a.png", "notes.txt")
    touch(tmp_path / "label", "a.bmp", "b.png", "c.png")
    pairs = images.find_pairs(tmp_path / "image", tmp_path / "label")
    assert [(a.name, b.name) for a, b in pairs] == [("a.png", "a.bmp"), ("b.JPG", "b.png")]
    touch(tmp_path / "image", "d.png")
    with pytest.raises(UserError, match=r"1 of 3 images in .* have no label in .* \(d\.png\): add"):
        images.find_pairs(tmp_path / "image", tmp_path / "label")
    touch(tmp_path / "label", "a.png")
    with pytest.raises(UserError, match=r"differ in their endings alone \(a\.bmp, a\.png\)"):
        images.find(tmp_path / "label")
    with pytest.raises(UserError, match=r"holds no file that ends in \.png"):
        images.find(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        images.find(tmp_path / "none")
