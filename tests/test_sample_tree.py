"""Drawn trees are of the datasets' own form, and are written whole or not at all."""

import cv2
import numpy as np
import pytest
from eal_icnet_jax.datasets.hy5syn import svg_labels
from eal_icnet_jax.datasets.ic_synthetic import examples

from eal_icnet_jax import images, input_pipeline, sample_tree, trees
from eal_icnet_jax.errors import UserError
from tests import commands, tree_config

FORMS = {
    "omc": ("image/0000.png", "label/0000.png", 3),
    "omv": ("image/0000.png", "label/0000.png", 3),
    "miic": ("Anomaly_train/0000.jpg", "label/0000.png", 1),
    "hy5syn": ("sems/sem0000.png", "labels/label0000.svg", 1),
}


def source(name):
    return input_pipeline.dataset_builder(tree_config.get_config(name).dataset).SOURCE


@pytest.mark.parametrize("name", FORMS)
def test_trees_have_the_form_that_the_builder_reads(sample_trees, name):
    root = sample_trees / name
    image, label, channels = FORMS[name]
    assert (root / label).exists()
    stored = cv2.imread(str(root / image), cv2.IMREAD_UNCHANGED)
    assert stored.ndim == (3 if channels == 3 else 2)
    tree = trees.read_tree(root, source(name).layouts)
    assert sum(map(len, tree.splits.values())) == 12
    assert tree.skipped == (3 if name == "miic" else 0)
    foreground = []
    for pair in tree.splits["train"]:
        pixels, masks, two_levels = source(name).read(pair)
        assert two_levels and pixels.shape[:2] == (55 if name == "hy5syn" else 64, 64)
        foreground.append(masks["label"].mean())
    assert 0 < np.mean(foreground) < 0.9


def test_hy5syn_labels_are_the_drawn_masks():
    """Also where regions have holes, which tracks cannot have."""
    written = sample_tree.files("hy5syn", 256, 1, 0)
    data = next(data for name, data in written.items() if name.endswith(".svg"))
    masks = svg_labels.parse(data, "").rasterize()
    kind = next(kind for kind in examples.KINDS if kind.name == "sem_metal_via")
    drawn = examples.draw_example(
        type(kind)(**{**vars(kind), "size": 256, "compressed": False}), "train", 0
    )
    np.testing.assert_array_equal(masks["label"], drawn["label"][:221, :, 0] > 0)
    vias = drawn["via_label"][:221, :, 0] > 0
    assert np.mean(masks["via_label"] != vias) < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_outlines_unite_to_any_mask(seed):
    noise = np.random.default_rng(seed).standard_normal((60, 70)).astype(np.float32)
    mask = cv2.GaussianBlur(noise, (0, 0), 2 + seed / 4) > -0.02
    painted = np.zeros(mask.shape, np.uint8)
    for outline in svg_labels.without_holes(mask):
        cv2.fillPoly(painted, [outline], 1)
    np.testing.assert_array_equal(painted > 0, mask)


def test_a_tree_can_be_drawn_split(tmp_path):
    commands_ran = commands.run(
        "sample_tree", "omv", tmp_path / "tree", "--images=4", "--size=64", "--split"
    )
    assert commands_ran.returncode == 0, commands_ran.stderr
    splits = trees.read_tree(tmp_path / "tree", (trees.Layout(),)).splits
    assert [len(pairs) for pairs in splits.values()] == [2, 1, 1]
    assert images.read(tmp_path / "tree/val/label/0002.png").shape == (64, 64)


@pytest.mark.parametrize(
    "count, size, split, told",
    [
        (2, 64, True, "--images=2 is too few for three splits: draw 3 or more"),
        (4, 64, False, "--images=4 is too few for three splits: draw 10 or more"),
        (12, 63, False, "--size is 63: draw images of at least 64 pixels"),
    ],
)
def test_bad_numbers_are_told(tmp_path, count, size, split, told):
    with pytest.raises(UserError, match=told):
        sample_tree.write_tree("omv", tmp_path / "tree", count, size, split)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(sample_trees):
    with pytest.raises(UserError, match="exists: name a new folder"):
        sample_tree.write_tree("omv", sample_trees / "omv", 12, 64, False)
