"""Drawn folders have the form of the datasets, and an error leaves none behind."""

import dataclasses

import cv2
import numpy as np
import pytest

from eal_icnet_jax.data import paired_folders, prepared_datasets
from eal_icnet_jax.datasets.ic_synthetic import examples, sample_folder
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import svg_labels
from tests import cli, tree_config
from tests.imaging.sample_images import pixels

FORMS = {
    "omc": ("image/0000.png", "label/0000.png", 3),
    "omv": ("image/0000.png", "label/0000.png", 3),
    "miic": ("Anomaly_train/0000.jpg", "label/0000.png", 1),
    "hy5syn": ("sems/sem0000.png", "labels/label0000.svg", 1),
}


def source_format(name):
    return prepared_datasets.dataset_builder(tree_config.get_config(name).dataset).SOURCE


@pytest.mark.parametrize("name", FORMS)
def test_folders_have_the_form_that_the_builder_reads(sample_trees, name):
    root = sample_trees / name
    image, label, channels = FORMS[name]
    assert (root / label).exists()
    stored = cv2.imread(str(root / image), cv2.IMREAD_UNCHANGED)
    assert stored.ndim == (3 if channels == 3 else 2)
    tree = paired_folders.find_split_pairs(root, source_format(name).layouts)
    assert sum(map(len, tree.splits.values())) == 12
    assert tree.skipped == (3 if name == "miic" else 0)
    foreground = []
    for pair in tree.splits["train"]:
        content = source_format(name).read(pair)
        masks = content.masks
        assert not content.label_notes and content.image.shape[:2] == (
            55 if name == "hy5syn" else 64,
            64,
        )
        foreground.append(masks["label"].mean())
    assert 0 < np.mean(foreground) < 0.9


def test_hy5syn_labels_are_the_drawn_masks():
    """Even if regions have holes, which tracks cannot have."""
    contents = sample_folder.draw_files("hy5syn", 256, 1, 0)
    data = next(data for name, data in contents.items() if name.endswith(".svg"))
    masks = svg_labels.parse(data, "").rasterize()
    kind = dataclasses.replace(examples.kind_by_name("sem_metal_via"), size=256)
    drawn = examples.draw_example(kind, "train", 0)
    np.testing.assert_array_equal(masks["label"], drawn["label"][:221, :, 0] > 0)
    vias = drawn["via_label"][:221, :, 0] > 0
    assert np.mean(masks["via_label"] != vias) < 0.01


def test_a_folder_can_be_drawn_split(tmp_path):
    result = cli.run(
        "draw", "dataset", "omv", tmp_path / "tree", "--images=4", "--size=64", "--split"
    )
    assert result.returncode == 0, result.stderr
    assert "4 images with labels in" in result.stdout
    layouts = (paired_folders.FolderLayout(),)
    splits = paired_folders.find_split_pairs(tmp_path / "tree", layouts).splits
    assert [len(pairs) for pairs in splits.values()] == [2, 1, 1]
    assert pixels(tmp_path / "tree/val/label/0002.png").shape == (64, 64)


@pytest.mark.parametrize(
    "count, size, split, expected",
    [
        (2, 64, True, "--images=2 is too few for three splits: draw 3 or more"),
        (4, 64, False, "--images=4 is too few for three splits: draw 10 or more"),
        (12, 63, False, "--size is 63: draw images of at least 64 pixels"),
    ],
)
def test_bad_numbers_are_reported(tmp_path, count, size, split, expected):
    with pytest.raises(UserError, match=expected):
        sample_folder.write_folder("omv", tmp_path / "tree", count, size, split)
    assert not list(tmp_path.iterdir())


def test_no_folder_is_overwritten(sample_trees):
    with pytest.raises(UserError, match="exists: name a new folder"):
        sample_folder.write_folder("omv", sample_trees / "omv", 12, 64, False)
