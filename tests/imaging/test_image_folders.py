import pathlib
import unicodedata

import pytest

from eal_icnet_jax.imaging import image_folders
from eal_icnet_jax.system.errors import UserError


def touch(folder: pathlib.Path, *names: str):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_images_are_paired_with_labels_of_the_same_stem(tmp_path):
    touch(tmp_path / "image", "b.JPG", "a.png", "notes.txt", ".c.png")
    touch(tmp_path / "label", "a.bmp", "b.png", "c.png")
    pairs, unused = image_folders.find_pairs(tmp_path / "image", tmp_path / "label")
    assert [path.name for path in unused] == ["c.png"]
    assert [(a.name, b.name) for a, b in pairs] == [("a.png", "a.bmp"), ("b.JPG", "b.png")]
    touch(tmp_path / "image", "d.png")
    with pytest.raises(UserError, match=r"1 of 3 images in .* have no label in .* \(d\.png\): add"):
        image_folders.find_pairs(tmp_path / "image", tmp_path / "label")


def test_accents_match_in_both_forms_of_unicode(tmp_path):
    touch(tmp_path / "image", unicodedata.normalize("NFC", "möbius.png"))
    touch(tmp_path / "label", unicodedata.normalize("NFD", "möbius.png"))
    assert len(image_folders.find_pairs(tmp_path / "image", tmp_path / "label")[0]) == 1


def test_endings_of_several_parts_and_in_capitals_pair(tmp_path):
    touch(tmp_path / "image", "a.ome.tif", "b.TIF")
    touch(tmp_path / "label", "a.png", "b.OME.TIFF")
    pairs, _ = image_folders.find_pairs(tmp_path / "image", tmp_path / "label")
    assert [image.name for image, _ in pairs] == ["a.ome.tif", "b.TIF"]


def test_folders_that_cannot_be_used_are_reported(tmp_path):
    touch(tmp_path / "twice", "a.bmp", "a.png", "b.png")
    for folder, message in (
        (tmp_path / "twice", r"differ only in their endings \(a\.bmp, a\.png\): keep one"),
        (tmp_path, r"holds no file that ends in \.png"),
        (tmp_path / "none", "is not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            image_folders.find_images(folder)
