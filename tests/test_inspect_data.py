"""The inspection finds what is wrong with a dataset, and nothing in one that is right."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
from eal_icnet_jax.datasets.ic_synthetic import examples

from eal_icnet_jax import images, inspect_data, sample_tree, trees
from tests import commands


@pytest.fixture(scope="module")
def circuits(tmp_path_factory):
    """An OMC tree whose images are large enough to tell one from another."""
    root = tmp_path_factory.mktemp("circuits") / "tree"
    sample_tree.write_tree("omc", root, 20, 192, split=False)
    return root


def read_report(folder):
    with (folder / "suspicious.csv").open(newline="") as file:
        return {(row["split"], row["name"]): row["reason"] for row in csv.DictReader(file)}


def rewrite(path, change):
    assert cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def test_a_sound_tree_is_reported(circuits, tmp_path, capsys):
    inspect_data.main(["omc", f"--manual_dir={circuits}", f"--output={tmp_path}"])
    assert "0 suspicious pairs" in capsys.readouterr().out
    statistics = json.loads((tmp_path / "statistics.json").read_text())
    assert sum(own["images"] for own in statistics.values()) == 20
    pairs = trees.read_tree(circuits, (trees.Layout(),)).splits["train"]
    grey = [cv2.cvtColor(cv2.imread(str(pair.image)), cv2.COLOR_BGR2GRAY) for pair in pairs]
    masks = [images.read(pair.label) > 0 for pair in pairs]
    own = statistics["train"]
    assert own["mean"] == pytest.approx(np.mean(grey), abs=0.01)
    assert own["std"] == pytest.approx(np.mean([g.std() for g in grey]), abs=0.01)
    assert own["foreground"]["label"] == pytest.approx(np.mean(masks))
    assert own["height"] == own["width"] == [192, 192]
    sheet = images.read(tmp_path / "contact_sheet.png")
    assert sheet.shape[1] > 900 and np.ptp(sheet) == 255
    assert not (tmp_path / "suspicious.png").exists()


def test_what_is_wrong_is_found(circuits, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(circuits, tree)
    splits = trees.read_tree(tree, (trees.Layout(),)).splits
    train, test = splits["train"], splits["test"]
    rewrite(train[0].label, lambda label: 255 - label)
    rewrite(train[1].label, np.zeros_like)
    rewrite(train[2].label, np.ones_like)
    rewrite(train[3].label, lambda label: label[:-8])
    train[4].image.write_bytes(train[4].image.read_bytes()[:500])
    shutil.copy(train[5].label, test[0].label)
    twin = np.clip(0.8 * cv2.imread(str(train[5].image)) + 20, 0, 255).astype(np.uint8)
    cv2.imwrite(str(test[0].image), np.roll(twin, 1, 1))
    result = commands.run(
        "inspect_data", "omc", f"--manual_dir={tree}", f"--output={tmp_path / 'report'}"
    )
    assert result.returncode == 0, result.stderr
    found = read_report(tmp_path / "report")
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
        assert f"train/{pair.name}: " in result.stdout
    assert (tmp_path / "report/suspicious.png").exists()


def test_inverted_vias_are_told_by_their_size():
    """Vias are neither always brighter nor darker than what surrounds them."""
    kind = next(kind for kind in examples.KINDS if kind.name == "optical_via")
    kind = type(kind)(**{**vars(kind), "size": 192, "without_vias": 0.0})
    figures = []
    for index in range(12):
        example = examples.draw_example(kind, "train", index)
        mask = example["label"][..., 0] > 0
        mask = ~mask if index in (3, 7) else mask
        member = inspect_data.Member(
            "train", str(index), lambda image=example["image"], mask=mask: (image, {"label": mask})
        )
        figures.append(inspect_data.figures_of(member))
    flagged = inspect_data.inverted(figures, "label")
    assert [k for k, wrong in enumerate(flagged) if wrong] == [3, 7]


def test_a_prepared_dataset_is_read_with_all_its_masks(prepared_trees, tmp_path, capsys):
    inspect_data.main(["hy5syn", f"--data_dir={prepared_trees}", f"--output={tmp_path}"])
    out = capsys.readouterr().out
    assert "via_label %" in out and "train/sem0000_y0000_x0000" not in out
    foreground = json.loads((tmp_path / "statistics.json").read_text())["train"]["foreground"]
    info = json.loads((prepared_trees / "hy5syn/covering/1.0.0/metadata.json").read_text())
    assert foreground == pytest.approx(info["splits"]["train"]["foreground"])


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["omv", "--manual_dir=none"], "none is not a folder"),
        (["omq", "--manual_dir=none"], "unknown dataset 'omq'"),
        (["ic_synthetic", "--manual_dir=none"], "ic_synthetic is not read from a folder"),
        (["omv", "--data_dir=none"], "omv/1.0.0 is not prepared in none"),
        (["omv", "--columns=0"], "--columns is 0"),
    ],
)
def test_bad_arguments_are_told(arguments, told, tmp_path, capsys):
    with pytest.raises(SystemExit) as status:
        inspect_data.main([*arguments, f"--output={tmp_path / 'report'}"])
    assert status.value.code == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
