"""OMC, OMV, MIIC and HY5SYN: from folders to records and training, and errors of bad folders."""

import hashlib
import json
import pathlib
import re
import shutil

import cv2
import numpy as np
import pytest

from eal_icnet_jax.data import paired_folders, prepared_datasets, tfds_builder
from eal_icnet_jax.imaging import pixel_values
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import loss_arguments
from tests import cli, tree_config
from tests.conftest import DATASETS, TREE_CONFIG, call
from tests.imaging.sample_images import pixels

LABELS = dict.fromkeys(DATASETS, ("label",)) | {"hy5syn": ("label", "via_label")}


def builder_of(name: str, data_dir):
    return prepared_datasets.dataset_builder(dataset_of(name, "", data_dir))


def dataset_of(name: str, tree, data_dir):
    dataset = tree_config.get_config(name).dataset
    dataset.manual_dir, dataset.data_dir = str(tree), str(data_dir)
    return dataset


@pytest.mark.parametrize("name", DATASETS)
def test_records_hold_the_files(name, prepared_trees, sample_trees):
    """Every pair is stored without loss, with masks of 0 and 255, in its split and in order."""
    builder = builder_of(name, prepared_trees)
    tree = paired_folders.find_split_pairs(sample_trees / name, builder.SOURCE.layouts)
    dataset = dataset_of(name, "", prepared_trees)
    dataset.labels = LABELS[name]
    for split, pairs in tree.splits.items():
        source = prepared_datasets.open_split(dataset, split)
        assert len(source) == len(pairs)
        for pair, example in zip(pairs, (source[k] for k in range(len(source))), strict=True):
            content = builder.SOURCE.read(pair)
            image, masks = content.image, content.masks
            stored = pixel_values.to_uint8(pixels(example["image"]), image.shape[-1])
            np.testing.assert_array_equal(stored, image)
            for label in LABELS[name]:
                mask = pixels(example[label])
                np.testing.assert_array_equal(mask, np.where(masks[label], 255, 0))
            if name == "hy5syn":
                assert example["tile"].decode() == pair.name
                assert example["crop_offset"].tolist() == [0, 0]
                assert example["name"].decode() == f"{pair.name}_y0000_x0000"
            else:
                assert example["name"].decode() == pair.name


@pytest.mark.parametrize("name", DATASETS)
def test_the_info_holds_counts_names_and_class_balance(name, prepared_trees, sample_trees):
    builder = builder_of(name, prepared_trees)
    tree = paired_folders.find_split_pairs(sample_trees / name, builder.SOURCE.layouts)
    assert builder.info.metadata["skipped"] == tree.skipped
    for split, pairs in tree.splits.items():
        statistics = builder.info.metadata["splits"][split]
        assert (
            statistics["files"] == statistics["examples"] == builder.info.splits[split].num_examples
        )
        lines = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()} {pair.name}\n"
            for pair in pairs
            for path in (pair.image, pair.label)
        ]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        assert statistics["files_sha256"] == digest
        masks = [builder.SOURCE.read(pair).masks for pair in pairs]
        for label in LABELS[name]:
            fraction = np.mean([mask[label].mean() for mask in masks])
            assert statistics["foreground"][label] == pytest.approx(fraction)
    info = builder.info
    assert name.upper() in info.description and "@" in info.citation
    assert info.redistribution_info.license and builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    assert info.features["image"].shape[-1] == (3 if name.startswith("om") else 1)


def test_preparing_again_gives_the_same_bytes(sample_trees, prepared_trees, tmp_path):
    for name in ("omv", "hy5syn"):
        prepared_datasets.prepare(dataset_of(name, sample_trees / name, tmp_path))
        first = [path for path in (prepared_trees / name).rglob("*.*") if path.is_file()]
        for path in first:
            again = tmp_path / path.relative_to(prepared_trees)
            assert again.read_bytes() == path.read_bytes(), path.name
        assert len(first) >= 6


def test_large_tiles_are_cut_into_crops_of_their_split(tmp_path):
    """Both crops of a tile are in its split and hold their offset."""
    rng = np.random.default_rng(0)
    for k in range(3):
        folder = tmp_path / "tree" / ("train", "val", "test")[k]
        for part in ("sems", "labels"):
            (folder / part).mkdir(parents=True)
        tile = rng.integers(0, 255, (40, 1500), np.uint8)
        cv2.imwrite(str(folder / f"sems/sem{k:04}.png"), tile)
        (folder / f"labels/label{k:04}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="1500" height="40">'
            '<path d="M400,3 L1200,3 L1200,30 L400,30 Z"/></svg>'
        )
    dataset = dataset_of("hy5syn", tmp_path / "tree", tmp_path / "data")
    for k, split in enumerate(paired_folders.SPLITS):
        source = prepared_datasets.open_split(dataset, split)
        crops = [
            (e["tile"].decode(), e["crop_offset"].tolist())
            for e in map(source.__getitem__, range(2))
        ]
        assert crops == [(f"sem{k:04}", [0, 0]), (f"sem{k:04}", [0, 476])]
        mask = pixels(source[1]["label"]) > 0
        assert mask.shape == (40, 1024) and mask[3:31, : 1200 - 476 + 1].all()
        assert mask.sum() == 28 * (1200 - 476 + 1)


@pytest.mark.parametrize("name", DATASETS)
def test_the_config_of_the_paper_trains_and_evaluates(name, prepared_trees, tmp_path):
    result = call(
        "main",
        f"--config={TREE_CONFIG}:{name}",
        f"--config.dataset.data_dir={prepared_trees}",
        f"--workdir={tmp_path}",
    )
    assert "epoch 2/2" in result.stdout and "test split, 1 images" in result.stdout
    assert len(list((tmp_path / "test").glob("worst_1_*.png"))) == 1
    assert (tmp_path / "curves.png").exists()


def test_cross_trains_on_three_and_tests_on_the_fourth(sample_trees, tmp_path):
    """All four are prepared from one folder that holds a folder for each."""
    config = f"--config={TREE_CONFIG}:cross-omv"
    call(
        "main", config, f"--workdir={tmp_path / 'run'}",
        f"--config.dataset.data_dir={tmp_path / 'data'}",
        f"--config.dataset.manual_dir={sample_trees}",
    )  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["downloads", *sorted(DATASETS)]
    report = json.loads((tmp_path / "run/test/metrics.json").read_text())
    tested = {row["name"] for row in report["per_image"]}
    layouts = (paired_folders.FolderLayout(),)
    omv = paired_folders.find_split_pairs(sample_trees / "omv", layouts)
    assert tested == {pair.name for pair in omv.splits["test"]}
    steps = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps[-1]["step"] == 2 * (9 + 10 + 9)  # images of OMC, HY5SYN and MIIC
    message = cli.error_of(
        "main", config, f"--workdir={tmp_path / 'pairs'}", "--config.batch_size=2",
        f"--config.dataset.data_dir={tmp_path / 'data'}",
    )  # fmt: skip
    assert "images of 55x64 and 64x64 cannot share a batch: set config.dataset.crop_size" in message


@pytest.mark.parametrize("name", ["omc", "omv", "miic"])
def test_the_user_is_asked_for_private_data(name, tmp_path):
    with pytest.raises(UserError) as error:
        prepared_datasets.open_split(dataset_of(name, "", tmp_path / "data"), "train")
    message = str(error.value)
    assert "private" in message and "image/ and label/" in message
    assert "--config.dataset.manual_dir=DIR" in message
    assert f"cd datasets/{name} && tfds build --manual_dir=DIR" in message
    assert not (tmp_path / "data").exists()


def copied_folder(sample_trees, tmp_path, name="omv") -> pathlib.Path:
    return pathlib.Path(shutil.copytree(sample_trees / name, tmp_path / "tree"))


def damage_png(tree):
    path = tree / "image/0000.png"
    path.write_bytes(path.read_bytes()[:2000])


def resize_label(tree):
    cv2.imwrite(str(tree / "label/0003.png"), np.zeros((10, 64), np.uint8))


def define_entities(tree):
    (tree / "labels/label0002.svg").write_text(
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
        '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="55">&b;</svg>'
    )


def draw_outside(tree):
    path = tree / "labels/label0002.svg"
    path.write_text(path.read_text().replace("</svg>", '<path d="M1,1 L64,5 Z"/></svg>'))


def link_outside(tree):
    (tree / "image/0004.png").unlink()
    (tree / "image/0004.png").symlink_to("/etc/hostname")


def link_to_itself(tree):
    (tree / "image/0004.png").unlink()
    (tree / "image/0004.png").symlink_to(tree / "image/0004.png")


def remove_partners(tree):
    for name in ("image/0001.png", "image/0002.png", "label/0003.png", "label/0004.png"):
        (tree / name).unlink()


@pytest.mark.parametrize(
    "name, damage, expected",
    [
        ("omv", shutil.rmtree, "tree is not a folder: name one with image/ and label/"),
        ("omv", remove_partners, "without a label"),
        ("omv", damage_png, "image/0000.png cannot be read as an image: replace or remove"),
        ("omv", resize_label, "label/0003.png is 10x64, but"),
        ("omv", link_outside, "image/0004.png in"),
        ("omv", link_to_itself, "image/0004.png cannot be read: Too many levels of symbolic links"),
        ("omv", lambda tree: shutil.rmtree(tree / "image"), "has no folder image"),
        ("omv", lambda tree: shutil.copy(tree / "image/0001.png", tree / "image/0001.bmp"),
         "differ only in their endings (0001.bmp, 0001.png)"),
        ("hy5syn", define_entities, "label0002.svg defines or refers to entities"),
        ("hy5syn", draw_outside, "label0002.svg reaches outside its tile of 55x64"),
        ("hy5syn", lambda tree: (tree / "labels/label0005.svg").write_text("<svg"),
         "label0005.svg is no readable SVG"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_bad_folders_are_reported_and_leave_nothing(sample_trees, tmp_path, name, damage, expected):
    tree = copied_folder(sample_trees, tmp_path, name)
    damage(tree)
    with pytest.raises(UserError) as error:
        prepared_datasets.prepare(dataset_of(name, tree, tmp_path / "data"))
    message = str(error.value)
    assert expected in message
    if damage is remove_partners:
        for missing in ("0001.png", "0002.png", "0003.png", "0004.png"):
            assert missing in message
    assert not (tmp_path / "data").exists()


def test_the_command_reports_a_bad_folder_in_one_line(sample_trees, tmp_path):
    """Even if good files came first and left a line of progress."""
    tree = copied_folder(sample_trees, tmp_path)
    resize_label(tree)
    message = cli.error_of(
        "main", f"--config={TREE_CONFIG}:omv", "--mode=prepare",
        f"--config.dataset.data_dir={tmp_path / 'data'}", f"--config.dataset.manual_dir={tree}",
    )  # fmt: skip
    assert "label/0003.png is 10x64, but" in message
    assert not (tmp_path / "data").exists()


def test_grey_labels_are_counted(sample_trees, tmp_path, capsys):
    tree = copied_folder(sample_trees, tmp_path)
    rng = np.random.default_rng(0)
    for path in sorted((tree / "label").iterdir())[:5]:
        cv2.imwrite(str(path), rng.choice([0, 100, 200], (16, 16)).repeat(4, 0).repeat(4, 1))
    prepared_datasets.prepare(dataset_of("omv", tree, tmp_path / "data"))
    warned = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning: ")]
    notes = [line for line in warned if "has 3 levels (0, 100, 200): all but 0 are" in line]
    others = [int(re.search(r"and (\d+) other files", line)[1]) for line in notes if "and " in line]
    assert len(notes) + sum(others) == 5


def rename_pair(tree):
    for folder in ("image", "label"):
        (tree / folder / "0000.png").rename(tree / folder / "zero.png")


def correct_label(tree):
    path = tree / "label/0000.png"
    cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize("change", [rename_pair, correct_label])
def test_another_folder_than_the_prepared_one_is_reported(
    sample_trees, prepared_trees, tmp_path, change
):
    tree = copied_folder(sample_trees, tmp_path)
    dataset = dataset_of("omv", tree, prepared_trees)
    prepared_datasets.prepare(dataset)  # the same files
    change(tree)
    with pytest.raises(UserError, match="was prepared from other files than"):
        prepared_datasets.prepare(dataset)


def test_a_folder_that_gained_splits_since_it_was_prepared_is_reported(sample_trees, tmp_path):
    """First it held train/ alone."""
    source, tree = sample_trees / "omv", tmp_path / "tree"
    for kind in ("image", "label"):
        shutil.copytree(source / kind, tree / "train" / kind)
    dataset = dataset_of("omv", tree, tmp_path / "data")
    prepared_datasets.prepare(dataset)
    prepared_datasets.prepare(dataset)  # the same files
    for split in ("val", "test"):
        shutil.copytree(tree / "train", tree / split)
    with pytest.raises(UserError, match="was prepared from other files than"):
        prepared_datasets.prepare(dataset)


def test_shards_are_limited_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_builder, "SHARD_BYTES", 1000)
    pairs = []
    for k in range(10):
        path = tmp_path / f"{k}.png"
        path.write_bytes(b"x" * 400)
        pairs.append(paired_folders.Pair(str(k), path, path))
    runs = tfds_builder.split_into_shards(tuple(pairs))
    assert [len(run) for run in runs] == [3, 3, 3, 1]
    assert [pair for run in runs for pair in run] == pairs


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_is_reported():
    writer = tfds_builder.ReproducibleWriter(builder_of("omv", "unused").info.file_format)
    with pytest.raises(UserError, match=r"/dev/full cannot be written: .*No space left"):
        writer.write("/dev/full", [(0, b"")])


def test_the_white_of_12_bits_is_found_once_for_all_splits_or_named(sample_trees, tmp_path, capsys):
    tree = copied_folder(sample_trees, tmp_path)
    for path in sorted((tree / "image").iterdir()):
        levels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16)
        cv2.imwrite(str(path), levels * 16 + 15)  # up to 4095
    dataset = dataset_of("omv", tree, tmp_path / "data")
    prepared_datasets.prepare(dataset)
    warnings = [x for x in capsys.readouterr().err.splitlines() if "taken for white" in x]
    assert len(warnings) == 1 and "above 4095" in warnings[0]
    example = prepared_datasets.open_split(dataset, "train")[0]
    name = example["name"].decode()
    stored = cv2.imread(str(tree / f"image/{name}.png"), cv2.IMREAD_UNCHANGED)
    found = pixels(example["image"])
    np.testing.assert_allclose(found.reshape(*found.shape[:2], -1)[..., 0], stored / 4095 * 255,
                               atol=0.6)  # fmt: skip
    dataset.white = 8190
    with pytest.raises(
        UserError, match=r"prepared with config.dataset.white=0, and now it is 8190"
    ):
        prepared_datasets.prepare(dataset)
    dataset.data_dir = str(tmp_path / "named")
    prepared_datasets.prepare(dataset)
    darker = pixels(prepared_datasets.open_split(dataset, "train")[0]["image"])
    np.testing.assert_allclose(darker, found / 2, atol=1)


def test_ignored_pixels_are_stored_and_left_out_of_the_balance(sample_trees, tmp_path, capsys):
    tree = copied_folder(sample_trees, tmp_path)
    paths = sorted((tree / "image").iterdir())
    (tree / "ignore").mkdir()
    for path in paths:
        ignore = np.zeros(cv2.imread(str(path)).shape[:2], np.uint8)
        ignore[: len(ignore) // 2] = 255
        cv2.imwrite(str(tree / f"ignore/{path.stem}.png"), ignore)
    dataset = dataset_of("omv", tree, tmp_path / "data")
    prepared_datasets.prepare(dataset)
    assert "50.00% ignored" in capsys.readouterr().out
    source = prepared_datasets.open_split(dataset, "train")
    label = pixels(source[0]["label"])
    assert pixels(source[0]["ignore"])[: len(label) // 2].all()
    assert not label[: len(label) // 2].any()
    balance = np.mean(
        [pixels(source[k]["label"])[len(label) // 2 :] > 0 for k in range(len(source))]
    )
    weights = loss_arguments.balanced_weights(dataset)
    assert weights == pytest.approx(((1 - balance) / balance,), rel=1e-6)
    recorded = builder_of("omv", tmp_path / "data").info.metadata["splits"]["train"]
    assert recorded["foreground"]["label"] == pytest.approx(balance)
    next((tree / "ignore").iterdir()).unlink()
    with pytest.raises(UserError, match="was prepared from other files than"):
        prepared_datasets.prepare(dataset)


def test_a_level_of_the_labels_is_ignored(sample_trees, tmp_path):
    tree = copied_folder(sample_trees, tmp_path)
    for path in sorted((tree / "label").iterdir()):
        label = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        label[:, :20] = 77
        cv2.imwrite(str(path), label)
    dataset = dataset_of("omv", tree, tmp_path / "data")
    dataset.ignore_value = 77
    prepared_datasets.prepare(dataset)
    example = prepared_datasets.open_split(dataset, "test")[0]
    ignored = pixels(example["ignore"])
    assert ignored[:, :20].all() and not ignored[:, 20:].any()
    dataset.ignore_value = 78
    with pytest.raises(UserError, match=r"with config.dataset.ignore_value=77, and now it is 78"):
        prepared_datasets.prepare(dataset)


def test_vias_beside_the_labels_are_a_second_label(sample_trees, tmp_path):
    tree = copied_folder(sample_trees, tmp_path)
    dataset = dataset_of("omv", tree, tmp_path / "without")
    dataset.labels = ("label", "via_label")
    with pytest.raises(UserError, match=r"has no label via_label: it has label"):
        prepared_datasets.open_split(dataset, "train")
    (tree / "via_label").mkdir()
    for path in sorted((tree / "label").iterdir()):
        label = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tree / "via_label" / path.name), 255 - label)
    dataset.data_dir = str(tmp_path / "with")
    example = prepared_datasets.open_split(dataset, "train")[0]
    np.testing.assert_array_equal(pixels(example["via_label"]), 255 - pixels(example["label"]))
    metadata = builder_of("omv", tmp_path / "with").info.metadata
    assert metadata["labels"] == ["label", "via_label"]
    shares = metadata["splits"]["train"]["foreground"]
    assert shares["label"] + shares["via_label"] == pytest.approx(1)
