"""The files and the text of an inspection."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from eal_icnet_jax.configs import default
from eal_icnet_jax.data import dataset_builders, paired_folders
from eal_icnet_jax.datasets.ic_synthetic import sample_folder
from eal_icnet_jax.evaluation import inspection
from eal_icnet_jax.evaluation.inspection_report import statistics_table, write_report
from tests.imaging.sample_images import pixels


@pytest.fixture(scope="module")
def circuits(tmp_path_factory):
    """An OMC folder whose images are large enough to be told apart by their hashes."""
    root = tmp_path_factory.mktemp("circuits") / "folder"
    sample_folder.write_folder("omc", root, 20, 192, split=False)
    return root


def inspect(folder, output):
    dataset = default.get_config().dataset
    dataset.name, dataset.config = "omc", ""
    builder = dataset_builders.dataset_builder(dataset)
    return write_report(inspection.pairs_of_folder(builder, folder), output, columns=6)


def find_pairs(folder):
    return paired_folders.find_split_pairs(folder, (paired_folders.FolderLayout(),)).splits


def rewrite(path, change):
    assert cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def test_a_sound_folder_is_described(circuits, tmp_path):
    assert "0 suspicious pairs" in inspect(circuits, tmp_path)
    statistics = json.loads((tmp_path / "statistics.json").read_text())["splits"]
    assert sum(own["images"] for own in statistics.values()) == 20
    pairs = find_pairs(circuits)["train"]
    grey = [cv2.cvtColor(cv2.imread(str(pair.image)), cv2.COLOR_BGR2GRAY) for pair in pairs]
    masks = [pixels(pair.label) > 0 for pair in pairs]
    own = statistics["train"]
    assert own["mean"] == pytest.approx(np.mean(grey), abs=0.01)
    assert own["std"] == pytest.approx(np.mean([g.std() for g in grey]), abs=0.01)
    assert own["foreground"]["label"] == pytest.approx(np.mean(masks))
    assert own["height"] == own["width"] == [192, 192]
    sheet = pixels(tmp_path / "contact_sheet.png")
    assert sheet.shape[1] > 900 and np.ptp(sheet) == 255
    assert not (tmp_path / "suspicious.png").exists()


def test_each_kind_of_defect_is_found(circuits, tmp_path):
    folder, output = tmp_path / "folder", tmp_path / "report"
    shutil.copytree(circuits, folder)
    splits = find_pairs(folder)
    train, test = splits["train"], splits["test"]
    rewrite(train[0].label, lambda label: 255 - label)
    rewrite(train[1].label, np.zeros_like)
    rewrite(train[2].label, np.ones_like)
    rewrite(train[3].label, lambda label: label[:-8])
    train[4].image.write_bytes(train[4].image.read_bytes()[:500])
    shutil.copy(train[5].label, test[0].label)
    twin = np.clip(0.8 * cv2.imread(str(train[5].image)) + 20, 0, 255).astype(np.uint8)
    cv2.imwrite(str(test[0].image), np.roll(twin, 1, 1))
    text = inspect(folder, output)
    with (output / "suspicious.csv").open(newline="") as file:
        found = {(row["split"], row["name"]): row["reason"] for row in csv.DictReader(file)}
    expected = {
        train[0]: "label looks inverted",
        train[1]: "label is empty",
        train[2]: "label is foreground everywhere",
        train[3]: "is 184x192, but",
        train[4]: "cannot be read as an image",
        train[5]: f"looks like test/{test[0].name}",
    }
    assert set(found) == {("train", pair.name) for pair in expected}
    for pair, reason in expected.items():
        assert reason in found["train", pair.name]
        assert f"train/{pair.name}: " in text
    assert (output / "suspicious.png").exists()


def test_the_table_is_aligned_and_shows_ranges():
    own = {"mean": 1.2, "std": 3, "p20": 0, "p85": 255, "ignored": 0, "foreground": {"label": 0.5}}
    statistics = {
        "train": {"images": 10, "height": [64, 96], "width": [64, 64], **own},
        "test": {"images": 2, "height": [64, 64], "width": [64, 64], **own},
    }
    lines = statistics_table(statistics).splitlines()
    assert len({*map(len, lines)}) == 1
    expected = ["train", "10", "64-96x64", "1", "3", "0", "255", "50.00"]
    assert lines[0].split() == [
        "split",
        "images",
        "size",
        "mean",
        "std",
        "p20",
        "p85",
        "label",
        "%",
    ]
    assert lines[1].split() == expected
