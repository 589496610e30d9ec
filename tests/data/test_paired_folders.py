"""Folders of images and labels: accepted layouts, splits by name, and errors."""

import os
import pathlib

import cv2
import numpy as np
import pytest

from eal_icnet_jax.data import paired_folders
from eal_icnet_jax.system.errors import UserError

FLAT = (paired_folders.FolderLayout(),)
MIIC = (
    paired_folders.FolderLayout(images="Anomaly_train", annotated_only=True),
    paired_folders.FolderLayout(),
)
NAMES = [f"{k:04}" for k in range(24)]


def touch(root: pathlib.Path, *paths: str):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def pairs_of(names, images="image", labels="label", ending=".png"):
    return [f"{folder}/{name}{ending}" for name in names for folder in (images, labels)]


def error_of(root, layouts=FLAT) -> str:
    with pytest.raises(UserError) as error:
        paired_folders.find_split_pairs(root, layouts)
    return str(error.value)


def test_a_flat_folder_is_split_by_name(tmp_path):
    touch(tmp_path, *pairs_of(NAMES))
    splits = paired_folders.find_split_pairs(tmp_path, FLAT).splits
    assert sorted(pair.name for pairs in splits.values() for pair in pairs) == NAMES
    before = {pair.name: split for split, pairs in splits.items() for pair in pairs}
    touch(tmp_path, *pairs_of(f"new{k}" for k in range(50)))
    after = {
        pair.name: split
        for split, pairs in paired_folders.find_split_pairs(tmp_path, FLAT).splits.items()
        for pair in pairs
    }
    assert before.items() <= after.items() and len(after) == 74


def test_splits_are_8_1_1():
    counts = dict.fromkeys(paired_folders.SPLITS, 0)
    for k in range(10_000):
        counts[paired_folders.split_of(f"image {k}")] += 1
    assert counts["train"] == pytest.approx(8000, abs=120)
    assert counts["validation"] == pytest.approx(1000, abs=90)
    assert counts["test"] == pytest.approx(1000, abs=90)


def test_endings_may_be_mixed_and_other_files_are_ignored(tmp_path):
    touch(tmp_path, *pairs_of(NAMES[4:]), "image/readme.txt", "image/.hidden.png", "Thumbs.db")
    for name, (image, label) in zip(
        NAMES, ((".JPG", ".png"), (".tif", ".bmp"), (".tiff", ".jpeg"), (".bmp", ".PNG")),
        strict=False,
    ):  # fmt: skip
        touch(tmp_path, f"image/{name}{image}", f"label/{name}{label}")
    splits = paired_folders.find_split_pairs(tmp_path, FLAT).splits
    assert sum(map(len, splits.values())) == 24
    first = next(pair for pairs in splits.values() for pair in pairs if pair.name == "0000")
    assert (first.image.name, first.label.name) == ("0000.JPG", "0000.png")


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_folders_that_are_already_split_stay_so(tmp_path, validation):
    for split, names in (("train", ["a", "b"]), (validation, ["c"]), ("test", ["a"])):
        touch(tmp_path / split, *pairs_of(names))
    splits = paired_folders.find_split_pairs(tmp_path, FLAT).splits
    names = {split: [pair.name for pair in pairs] for split, pairs in splits.items()}
    assert names == {"train": ["a", "b"], "validation": ["c"], "test": ["a"]}


def test_images_of_miic_without_a_label_are_counted(tmp_path):
    touch(tmp_path, *pairs_of(NAMES, "Anomaly_train"), "Anomaly_train/x.jpg", "Anomaly_train/y.jpg")
    tree = paired_folders.find_split_pairs(tmp_path, MIIC)
    assert sum(map(len, tree.splits.values())) == 24 and tree.skipped == 2
    touch(tmp_path, "label/z.png")
    assert "labels without an image" in error_of(tmp_path, MIIC)
    assert "(z.png)" in error_of(tmp_path, MIIC)


def test_names_in_any_script_are_paired(tmp_path):
    """Spaces, Chinese characters, and accents, which file systems store in two forms."""
    touch(tmp_path, *pairs_of([*NAMES, "芯片 3", "die 1"]))
    touch(tmp_path, "image/cafe\u0301.png", "label/caf\u00e9.png")
    names = {
        p.name
        for pairs in paired_folders.find_split_pairs(tmp_path, FLAT).splits.values()
        for p in pairs
    }
    assert {"芯片 3", "die 1", "caf\u00e9"} < names
    touch(tmp_path, "label/cafe\u0301.png")
    assert "differ only in their endings" in error_of(tmp_path)


def test_every_missing_partner_is_named(tmp_path):
    touch(tmp_path, *pairs_of(NAMES), *(f"image/i{k}.png" for k in range(9)))
    touch(tmp_path, *(f"label/l{k}.png" for k in range(9)))
    message = error_of(tmp_path)
    for k in range(9):
        assert f"i{k}.png" in message and f"l{k}.png" in message


@pytest.mark.parametrize(
    "paths, expected",
    [
        ([], "has no folder image: it must hold image/ and label/"),
        (["image/a.png"], "has image/ but no folder label"),
        (["image/a.txt", "label/a.txt"], "image holds no file that ends in .png"),
        (pairs_of("ab"), "leaves validation and test of the 2 images in"),
        (
            [*pairs_of(NAMES), "image/0003.bmp"],
            "differ only in their endings (0003.bmp, 0003.png)",
        ),
        ([*pairs_of(NAMES), "train/x"], "holds image beside train: keep the flat folders or"),
        (["val/image/a.png"], "holds val but no folder for train and test"),
        (["train/image/a.png", "val/image/a.png"], "holds train, val but no folder for test"),
        (
            ["train/a", "val/a", "valid/a", "test/a"],
            "holds val and valid, which are the same split",
        ),
        (["train/a", "val/a", "test/a"], "train has no folder image"),
    ],
)
def test_bad_layouts_are_reported(tmp_path, paths, expected):
    touch(tmp_path, *paths)
    assert expected in error_of(tmp_path)


def test_a_folder_may_hold_training_images_only(tmp_path):
    touch(tmp_path, "train/image/a.png", "train/label/a.png")
    found = paired_folders.find_split_pairs(tmp_path, FLAT)
    assert [pair.name for pair in found.splits["train"]] == ["a"] and len(found.splits) == 1


def test_bad_roots_are_reported(tmp_path):
    assert "is not a folder: name one with image/ and label/" in error_of(tmp_path / "none")
    touch(tmp_path, *pairs_of(NAMES), *pairs_of(NAMES, "Anomaly_train"))
    assert "holds both Anomaly_train and image: keep one" in error_of(tmp_path, MIIC)


def test_links_out_of_the_folder_are_reported(tmp_path):
    root, outside = tmp_path / "folder", tmp_path / "secret.png"
    outside.touch()
    touch(root, *pairs_of(NAMES))
    (root / "image" / "0001.png").unlink()
    (root / "image" / "0001.png").symlink_to(root / "image" / "0002.png")
    assert (
        sum(map(len, paired_folders.find_split_pairs(root, FLAT).splits.values())) == 24
    )  # stays inside
    (root / "image" / "0002.png").unlink()
    (root / "image" / "0002.png").symlink_to(outside)
    assert "image/0002.png in" in error_of(root) and "leads out of it" in error_of(root)
    os.rename(root / "label", tmp_path / "label")
    (root / "label").symlink_to(tmp_path / "label")
    assert "label/0023.png" in error_of(root)


def written(
    tmp_path, image, label, image_ending=".png", label_ending=".png"
) -> paired_folders.Pair:
    paths = tmp_path / f"i{image_ending}", tmp_path / f"l{label_ending}"
    for path, array in zip(paths, (image, label), strict=True):
        assert cv2.imwrite(str(path), array)
    return paired_folders.Pair("i", *paths)


RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 56), np.uint8)
LABEL = np.where(RNG.random((40, 56)) < 0.4, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "stored",
    [
        GREY,
        GREY.astype(np.uint16) * 257,
        np.dstack([GREY] * 3),
        np.dstack([np.where(LABEL, GREY, 255)] * 3 + [np.where(LABEL, 255, 0)]).astype(np.uint8),
    ],
    ids=["grey", "16 bits", "colour", "transparent"],
)
def test_images_are_stored_as_documented(tmp_path, stored, channels):
    source = paired_folders.SourceFormat(channels=channels)
    content = source.read(written(tmp_path, stored, LABEL))
    image, masks = content.image, content.masks
    assert image.dtype == np.uint8 and image.shape == (40, 56, channels)
    for k in range(channels):
        expected = np.where(LABEL > 0, GREY, 0) if stored.shape[2:] == (4,) else GREY
        np.testing.assert_array_equal(image[..., k], expected)
    np.testing.assert_array_equal(masks["label"], LABEL > 0)
    assert not content.label_notes


def test_palette_labels_are_foreground_where_they_have_their_only_colour(tmp_path):
    """Annotation tools write index 1 as dark red on black."""
    from PIL import Image

    indexed = Image.frombytes("P", LABEL.shape[::-1], (LABEL > 0).astype(np.uint8).tobytes())
    indexed.putpalette([0, 0, 0, 128, 0, 0] + [0] * 750)
    pair = written(tmp_path, GREY, LABEL)
    indexed.save(pair.label)
    content = paired_folders.SourceFormat(channels=1).read(pair)
    masks = content.masks
    np.testing.assert_array_equal(masks["label"], LABEL > 0)
    assert not content.label_notes


def test_a_link_to_itself_is_reported(tmp_path):
    touch(tmp_path, *pairs_of(NAMES))
    loop = tmp_path / "image" / "0001.png"
    loop.unlink()
    loop.symlink_to(loop)
    pairs = paired_folders.find_split_pairs(tmp_path, FLAT).splits
    (pair,) = [pair for members in pairs.values() for pair in members if pair.name == "0001"]
    with pytest.raises(UserError, match=r"0001\.png cannot be read: Too many levels of symbolic"):
        paired_folders.SourceFormat(channels=1).read(pair)


def test_different_sizes_and_truncated_files_are_reported(tmp_path):
    source = paired_folders.SourceFormat(channels=1)
    pair = written(tmp_path, GREY, LABEL[:-1])
    with pytest.raises(UserError, match=r"l\.png is 39x56, but .*i\.png is 40x56"):
        source.read(pair)
    for ending in (".png", ".jpg", ".bmp", ".tif"):
        pair = written(tmp_path, GREY, LABEL, image_ending=ending)
        pair.image.write_bytes(pair.image.read_bytes()[:-200])
        with pytest.raises(UserError, match=r"cannot be read as an image|is cut off or damaged"):
            source.read(pair)


def write(path: pathlib.Path, image: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def test_a_third_folder_names_what_is_ignored(tmp_path):
    image, label, ignore = np.zeros((3, 32, 40), np.uint8)
    label[:16], ignore[:, :10] = 255, 255
    for name in "ab":
        write(tmp_path / f"train/image/{name}.png", image)
        write(tmp_path / f"train/label/{name}.png", label)
    write(tmp_path / "train/ignore/b.png", ignore)
    first, second = paired_folders.find_split_pairs(tmp_path, FLAT).splits["train"]
    assert first.ignore is None and second.ignore == tmp_path / "train/ignore/b.png"
    assert second.files == (second.image, second.label, second.ignore)
    source = paired_folders.SourceFormat(channels=1)
    assert not source.read(first).ignored.any()
    content = source.read(second)
    np.testing.assert_array_equal(content.ignored, ignore > 0)
    np.testing.assert_array_equal(content.masks["label"], (label > 0) & (ignore == 0))

    write(second.ignore, ignore[:20])
    with pytest.raises(UserError, match=r"ignore/b.png is 20x40, but .*image/b.png is 32x40"):
        source.read(second)
    write(second.ignore, np.full_like(ignore, 255))
    with pytest.raises(UserError, match=r"image/b.png is ignored everywhere: remove it"):
        source.read(second)
    write(tmp_path / "train/ignore/c.png", ignore)
    assert "files in" in error_of(tmp_path) and "without a labelled image (c.png)" in error_of(
        tmp_path
    )


def test_a_level_of_the_label_may_name_what_is_ignored(tmp_path):
    levels = np.zeros((32, 40), np.uint8)
    levels[:8], levels[8:20] = 128, 255
    write(tmp_path / "a.png", levels)
    masks, notes = paired_folders.read_mask(tmp_path / "a.png", ignore_value=128)
    np.testing.assert_array_equal(masks["label"], levels == 255)
    np.testing.assert_array_equal(masks["ignore"], levels == 128)
    assert not notes
    write(tmp_path / "b.png", np.maximum(levels, 50))  # the background is not 0
    masks, _ = paired_folders.read_mask(tmp_path / "b.png", ignore_value=128)
    np.testing.assert_array_equal(masks["label"], levels == 255)
    masks, _ = paired_folders.read_mask(tmp_path / "a.png", ignore_value=7)
    assert not masks["ignore"].any()
    write(tmp_path / "c.png", np.dstack([levels, levels, levels // 2]))
    with pytest.raises(UserError, match="has colours, so that the level 128 means nothing"):
        paired_folders.read_mask(tmp_path / "c.png", ignore_value=128)


def test_vias_have_a_folder_of_their_own(tmp_path):
    image, label, via = np.zeros((3, 32, 40), np.uint8)
    label[:16], via[4:8, 4:8] = 255, 255
    for name in "ab":
        write(tmp_path / f"train/image/{name}.png", image)
        write(tmp_path / f"train/label/{name}.png", label)
    write(tmp_path / "train/via_label/b.png", via)
    assert "images without a mask in" in error_of(tmp_path) and "(a.png)" in error_of(tmp_path)
    write(tmp_path / "train/via_label/a.png", via)
    first, _ = paired_folders.find_split_pairs(tmp_path, FLAT).splits["train"]
    masks = paired_folders.SourceFormat(channels=1).read(first).masks
    np.testing.assert_array_equal(masks["via_label"], via > 0)
    np.testing.assert_array_equal(masks["label"], label > 0)
