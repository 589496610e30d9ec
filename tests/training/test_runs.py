"""Training and evaluation as a config describes them: what they write, and what they refuse."""

import csv
import json
import math

import numpy as np
import pytest

from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import runs
from tests import small_config, trainings


def test_a_run_leaves_its_files(workdir):
    config = json.loads((workdir / "config.json").read_text())
    assert config["epochs"] == 3
    assert "init_conv.0.conv.kernel" in (workdir / "parameters.txt").read_text()
    logged = trainings.records(workdir)
    assert [r["epoch"] for r in logged if "validation_loss" in r] == [1, 2, 3]
    assert {"loss", "images_per_second"} <= logged[0].keys()
    assert all(math.isfinite(value) for record in logged for value in record.values())
    losses = [r["train_loss"] for r in logged if "train_loss" in r]
    assert losses[-1] < losses[0]
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert (workdir / "curves.png").stat().st_size > 5000
    assert (workdir / "test" / "metrics.csv").exists()
    assert len(list((workdir / "test").glob("worst_*.png"))) == 1
    text = (workdir / "stdout.txt").read_text()
    assert "epoch 3/3" in text and "images/s" in text and "left" in text and "mIoU" in text


def test_the_test_report_averages_the_images(workdir):
    report = json.loads((workdir / "test" / "metrics.json").read_text())
    with (workdir / "test" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert report["images"] == len(rows) == 3
    for name, value in report["mean"]["label"].items():
        assert value == pytest.approx(np.mean([float(row[name]) for row in rows]))


def test_best_and_latest_checkpoints_are_kept(workdir):
    """Of 24 steps with a checkpoint every 3 and each epoch, the best and the two latest remain."""
    steps = set(trainings.steps(workdir))
    epochs = {record["step"]: record["validation_loss"] for record in trainings.epochs(workdir)}
    best = min(epochs, key=epochs.get)
    assert {best, 24} <= steps and len(steps) <= 3
    assert checkpoints.resolve(workdir).name == str(best)


def test_evaluation_reports_as_training_did(data_dir, workdir, tmp_path):
    text = runs.evaluate(small_config.on(data_dir), tmp_path, str(workdir))
    assert "test split, 3 images, percent:" in text and "mIoU" in text
    new, old = (
        json.loads((folder / "test" / "metrics.json").read_text()) for folder in (tmp_path, workdir)
    )
    assert new == old


def test_another_network_trains(data_dir, tmp_path):
    config = small_config.get_config("contextnet")
    config.dataset.data_dir, config.epochs = str(data_dir), 1
    assert "test split, 3 images" in runs.train(config, tmp_path)
    assert checkpoints.load_model(tmp_path).spec.name == "contextnet"
    report = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert 0 < report["mean"]["label"]["mIoU"] < 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dataset.name", "omx", "unknown dataset 'omx': choose one of hy5syn"),
        ("dataset.config", "huge", "no config 'huge': choose one of optical_circuit"),
        ("dataset.labels", ("label", "wire"), "no label wire: it has label"),
        ("dataset.prepare", False, "is not prepared in .* with the same config first"),
        ("batch_size", 9, "config.batch_size is 9, more than the 8 training images"),
        ("dataset.crop_size", 128, "smaller than the crop"),
    ],
)
def test_a_config_that_does_not_fit_the_data_is_reported_and_leaves_no_run(
    data_dir, tmp_path, key, value, message
):
    config = small_config.on(data_dir)
    config.update_from_flattened_dict({key: value})
    if key == "dataset.prepare":
        config.dataset.data_dir = str(tmp_path / "none")
    with pytest.raises(UserError, match=message):
        runs.train(config, tmp_path)
    with pytest.raises(UserError, match="holds no checkpoint"):
        runs.evaluate(small_config.on(data_dir), tmp_path)


def test_evaluation_needs_a_workdir_and_a_checkpoint_for_the_labels(data_dir, workdir):
    config = small_config.on(data_dir)
    with pytest.raises(UserError, match="no --workdir: name a folder for tables and pictures"):
        runs.evaluate(config, None)
    config.dataset.labels = ("label", "via_label")
    with pytest.raises(UserError, match=r"predicts 1 masks, but config.dataset.labels names 2"):
        runs.evaluate(config, workdir)
