"""`eal-icnet finetune`: a round on corrected squares, and the model in use."""

import shutil

import cv2
import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.imaging import png
from tests import cli, small_model

TINY = next(kind for kind in examples.KINDS if kind.name == "tiny")
QUICK = (
    "--config.epochs=1", "--config.dataset.views=4", "--config.dataset.mixed=",
    "--config.dataset.crop_size=64", "--config.batch_size=2",
)  # fmt: skip


@pytest.fixture
def project(tmp_path):
    """Two squares with metal and vias. The upper rows of each are ignored."""
    for index in range(2):
        example = examples.draw_example(TINY, "train", index)
        via, ignore = np.zeros((2, 96, 96), np.uint8)
        via[30:36, 40:46], ignore[:20] = 255, 255
        masks = {"image": example["image"], "label": example["label"][..., 0],
                 "via_label": via, "ignore": ignore}  # fmt: skip
        for name, mask in masks.items():
            path = tmp_path / "project" / "train" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            png.write(path, mask)
    return tmp_path / "project"


def test_a_round_makes_a_model_that_predicts_and_can_be_taken_back(project, tmp_path):
    checkpoint = small_model.save(tmp_path / "start", in_channels=3, classes=2)
    start = f"--project={project}", f"--checkpoint={checkpoint}"
    result = cli.call("finetune", *start, *QUICK)
    assert result.returncode == 0, result.stderr
    assert "round 1: 2 squares" in result.stdout
    model = project / "models/001"
    assert f"in use: {model}" in result.stdout
    report = (model / "test/metrics.json").read_text()
    assert '"via_label"' in report  # both outputs are trained
    image = project / "train/image/0.png"
    masks = cli.call("predict", image, f"--output={tmp_path / 'out'}", f"--checkpoint={model}")
    assert masks.returncode == 0, masks.stderr
    undo = cli.call("finetune", start[0], "--undo")
    assert "in use: the model before any round" in undo.stdout
    assert "nothing lies before it" in cli.error_of("finetune", start[0], "--undo")
    assert model.exists()


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("train", "has no folder train: put squares into"),
        ("train/label", "has image/ but no folder label"),
        ("train/via_label/1.png", "images without a mask in"),
    ],
)
def test_a_project_that_cannot_be_used_is_refused(project, removed, message):
    path = project / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert message in cli.error_of("finetune", f"--project={project}")
    assert not (project / "models").exists()


def test_squares_of_another_size_are_refused(project, tmp_path):
    checkpoint = small_model.save(tmp_path / "start", in_channels=3, classes=2)
    cv2.imwrite(str(project / "train/ignore/0.png"), np.zeros((40, 96), np.uint8))
    arguments = f"--project={project}", f"--checkpoint={checkpoint}"
    assert "ignore/0.png is 40x96, but" in cli.error_of("finetune", *arguments, *QUICK)
