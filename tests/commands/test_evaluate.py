"""The three forms of `eal-icnet evaluate`, and the arguments that it refuses."""

import json
import shutil

import cv2
import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.evaluation import metrics
from tests import cli, small_model

TINY = next(kind for kind in examples.KINDS if kind.name == "tiny")


@pytest.fixture
def folders(tmp_path):
    """Four images with labels, and predictions each of which is worse than the one before."""
    for name in ("images", "labels", "predictions"):
        (tmp_path / name).mkdir()
    for index in range(4):
        example = examples.draw_example(TINY, "test", index)
        label = example["label"][..., 0]
        prediction = label.copy()
        prediction[: 16 * index] ^= 255
        cv2.imwrite(str(tmp_path / "images" / f"im{index}.bmp"), example["image"][..., ::-1])
        cv2.imwrite(str(tmp_path / "labels" / f"im{index}.png"), label)
        cv2.imwrite(str(tmp_path / "predictions" / f"im{index}.png"), prediction)
    return tmp_path


def arguments(folders, **options):
    given = {"labels": folders / "labels", "output": folders / "report", **options}
    return [f"--{key}={value}" for key, value in given.items()]


def evaluate(folders, **options):
    """Evaluate into the folder `report`, and return what the command prints."""
    result = cli.call("evaluate", *arguments(folders, **options))
    assert result.returncode == 0, result.stderr
    return result.stdout


def error_of(folders, **options):
    error = cli.error_of("evaluate", *arguments(folders, **options))
    assert not (folders / "report").exists()
    return error


def report_in(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_masks_from_any_source_are_compared(folders):
    out = evaluate(folders, predictions=folders / "predictions", pictures=2)
    report = report_in(folders / "report")
    assert [row["name"] for row in report["per_image"]] == ["im0", "im1", "im2", "im3"]
    for index, row in enumerate(report["per_image"]):
        label, prediction = (
            cv2.imread(str(folders / kind / f"im{index}.png"), cv2.IMREAD_GRAYSCALE)
            for kind in ("labels", "predictions")
        )
        for name, value in metrics.evaluate_masks(label, prediction).items():
            assert row[name] == pytest.approx(value)
    assert len(list((folders / "report").glob("*.png"))) == 4
    assert "mIoU" in out and f"{100 * report['mean']['label']['mIoU']:.2f}" in out
    assert f"tables and pictures in {folders / 'report'}" in out


def test_a_report_does_not_go_where_the_masks_are(folders):
    place = folders / "predictions"
    error = cli.error_of("evaluate", f"--predictions={place}", f"--labels={folders / 'labels'}",
                         "-o", place)  # fmt: skip
    assert "--output is the folder of the predictions: name another one" in error


def test_what_a_third_folder_masks_does_not_count(folders):
    """Where a prediction is wrong, it is ignored: all images are then right."""
    (folders / "ignore").mkdir()
    for index in range(4):
        kinds = ("labels", "predictions")
        masks = [cv2.imread(str(folders / kind / f"im{index}.png"), 0) for kind in kinds]
        cv2.imwrite(str(folders / f"ignore/im{index}.png"), masks[0] ^ masks[1])
    before = evaluate(folders, predictions=folders / "predictions")
    evaluate(folders, predictions=folders / "predictions", ignore=folders / "ignore")
    rows = report_in(folders / "report")["per_image"]
    assert [row["mIoU"] for row in rows] == [1] * 4 and "100.00" not in before
    (folders / "ignore/im0.png").rename(folders / "ignore/im9.png")
    shutil.rmtree(folders / "report")
    error = error_of(folders, predictions=folders / "predictions", ignore=folders / "ignore")
    assert "holds masks without a label (im9.png): give them the names of the labels" in error


def test_no_pictures_are_drawn_if_none_are_wanted(folders):
    evaluate(folders, predictions=folders / "predictions", pictures=0)
    assert not list((folders / "report").glob("*.png"))


def test_a_checkpoint_is_evaluated_on_a_folder_as_on_its_dataset(folders, workdir):
    """The folder's first three images are the test split, in another order."""
    evaluate(folders, images=folders / "images", checkpoint=workdir)
    expected = {row["name"]: row for row in report_in(workdir / "test")["per_image"]}
    rows = report_in(folders / "report")["per_image"]
    for index in range(3):
        row, same = rows[index], expected[f"test_{index:05d}"]
        assert row["mIoU"] == pytest.approx(same["mIoU"], abs=1e-6)
        assert row["loss"] == pytest.approx(same["loss"], rel=1e-5)


def test_a_checkpoint_is_evaluated_on_the_test_split_of_a_config(workdir, small_training, tmp_path):
    more = f"--workdir={tmp_path}", f"--checkpoint={workdir}"
    result = cli.call("evaluate", *small_training, *more)
    assert result.returncode == 0, result.stderr
    assert "test split, 3 images" in result.stdout
    assert report_in(tmp_path / "test") == report_in(workdir / "test")


def test_packaged_weights_are_evaluated_as_they_predict(folders):
    """Their first output, metal, at the magnification that `predict` finds."""
    for path in sorted((folders / "images").iterdir())[2:]:
        path.unlink()  # two are enough
        (folders / "labels" / f"{path.stem}.png").unlink()
    out = evaluate(folders, images=folders / "images", checkpoint="optical")
    assert "the labels are compared with the network's output metal" in out
    assert "im0.bmp: its wires are about" in out
    direct = report_in(folders / "report")
    masks = f"--output={folders / 'masks'}"
    assert cli.call("predict", folders / "images", masks, "--checkpoint=optical").returncode == 0
    for path in (folders / "masks").glob("*_metal.png"):
        path.rename(path.with_name(path.name.replace("_metal", "")))
    for path in (folders / "masks").glob("*_via.png"):
        path.unlink()
    evaluate(folders, predictions=folders / "masks")
    assert report_in(folders / "report")["mean"]["label"] == direct["mean"]["label"]


def test_labels_that_do_not_fit_the_images_are_reported(folders, tmp_path):
    checkpoint = small_model.save(tmp_path / "model")
    given = {"images": folders / "images", "checkpoint": checkpoint}
    (folders / "labels" / "im2.png").unlink()
    assert "1 of 4 images" in error_of(folders, **given)
    cv2.imwrite(str(folders / "labels" / "im2.png"), np.zeros((40, 96), np.uint8))
    assert "label of im2 is 40x96, its image 96x96: make them one size" in error_of(
        folders, **given
    )
    (folders / "labels" / "im2.png").write_bytes(b"nothing")
    assert "label of im2 cannot be read as an image" in error_of(folders, **given)


def test_an_image_that_is_too_small_is_reported_with_name_size_and_minimum(folders, tmp_path):
    for kind in ("images", "labels"):
        for path in (folders / kind).iterdir():
            path.unlink()
        cv2.imwrite(str(folders / kind / "small.png"), np.zeros((20, 20), np.uint8))
    checkpoint = small_model.save(tmp_path / "model")
    error = error_of(folders, images=folders / "images", checkpoint=checkpoint)
    assert "small is 20x20" in error and "at least 32x32" in error


def test_a_checkpoint_of_two_masks_is_refused_for_a_folder(folders, tmp_path):
    checkpoint = small_model.save(tmp_path / "model", classes=2)
    error = error_of(folders, images=folders / "images", checkpoint=checkpoint)
    assert "predicts 2 masks, and a folder has one label per image" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": "nan"}, "--threshold is nan: name a probability from 0 to 1"),
        ({"threshold": "1.01"}, "--threshold is 1.01: name a probability from 0 to 1"),
        ({"threshold": "-0.5"}, "--threshold is -0.5: name a probability from 0 to 1"),
        ({"pictures": "-1"}, "--pictures is -1: name 0 or more"),
        ({"config.epochs": "1"}, "unknown argument --config.epochs=1"),
    ],
)
def test_options_that_make_no_sense_are_refused(folders, options, message):
    given = {"images": folders / "images", "checkpoint": "none", **options}
    assert message in error_of(folders, **given)
    del given["checkpoint"], given["images"]
    assert message in error_of(folders, predictions=folders / "predictions", **given)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"images": "a"},
        {"checkpoint": "a"},
        {"images": "a", "predictions": "a"},
        {"predictions": "a", "checkpoint": "a"},
        {"images": "a", "checkpoint": "a", "workdir": "a"},
        {"config": "a", "workdir": "a"},
    ],
)
def test_options_of_several_forms_are_refused(folders, options):
    assert "name --images, --labels, --checkpoint and --output, or --predictions" in error_of(
        folders, **options
    )


def test_the_config_sets_threshold_and_pictures_of_its_form(tmp_path):
    error = cli.error_of("evaluate", "--config=a", f"--workdir={tmp_path}", "--threshold=0.4")
    assert "with --config, set config.evaluation.threshold, config.evaluation.pictures" in error
