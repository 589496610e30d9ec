"""Evaluation of folders: the report, the pictures, and what is told."""

import csv
import json

import cv2
import numpy as np
import pytest
from eal_icnet_jax.datasets.ic_synthetic import examples

from eal_icnet_jax import evaluate, metrics, pictures

TINY = next(kind for kind in examples.KINDS if kind.name == "tiny")


@pytest.fixture
def folders(tmp_path):
    """Four images with labels, and predictions that get worse from one to the next."""
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


def argv(folders, **options):
    arguments = {"labels": folders / "labels", "output": folders / "report", **options}
    return [f"--{key}={value}" for key, value in arguments.items()]


def told(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(arguments)
    assert caught.value.code == 1
    return capsys.readouterr().err


def test_masks_from_anywhere(folders, capsys):
    evaluate.main(argv(folders, predictions=folders / "predictions", pictures=2))
    with (folders / "report" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["im0", "im1", "im2", "im3"]
    for index, row in enumerate(rows):
        label, prediction = (
            cv2.imread(str(folders / kind / f"im{index}.png"), cv2.IMREAD_GRAYSCALE)
            for kind in ("labels", "predictions")
        )
        for name, value in metrics.evaluate_masks(label, prediction).items():
            assert float(row[name]) == pytest.approx(value)
    report = json.loads((folders / "report" / "metrics.json").read_text())
    mean = np.mean([float(row["mIoU"]) for row in rows])
    assert report["mean"]["label"]["mIoU"] == pytest.approx(mean)
    drawn = {path.name for path in (folders / "report").glob("*.png")}
    ranked = [row["name"] for row in sorted(rows, key=lambda row: float(row["mIoU"]))]
    assert drawn == {
        f"worst_1_{ranked[0]}.png",
        f"worst_2_{ranked[1]}.png",
        f"best_1_{ranked[3]}.png",
        f"best_2_{ranked[2]}.png",
    }
    out = capsys.readouterr().out
    assert "mIoU" in out and f"{100 * mean:.2f}" in out


def test_a_checkpoint_on_a_folder(folders, workdir):
    evaluate.main(argv(folders, images=folders / "images", checkpoint=workdir))
    report = json.loads((folders / "report" / "metrics.json").read_text())
    trained = json.loads((workdir / "test" / "metrics.json").read_text())
    # The folder's first three images are the test split, in another order.
    want = {row["name"]: row for row in trained["per_image"]}
    for index in range(3):
        row, same = report["per_image"][index], want[f"test_{index:05d}"]
        assert row["mIoU"] == pytest.approx(same["mIoU"], abs=1e-6)
        assert row["loss"] == pytest.approx(same["loss"], rel=1e-5)


def test_bad_folders_are_told(folders, workdir, capsys):
    both = argv(folders, images=folders / "images", checkpoint=workdir)
    (folders / "labels" / "im2.png").unlink()
    assert "1 of 4 images" in told(capsys, both)
    cv2.imwrite(str(folders / "labels" / "im2.png"), np.zeros((40, 96), np.uint8))
    error = told(capsys, both)
    assert "label of im2 is 40x96, its image 96x96: make them one size" in error
    (folders / "labels" / "im2.png").write_bytes(b"nothing")
    assert "label im2 cannot be read as an image" in told(capsys, both)
    assert not (folders / "report").exists()
    assert "--images with --checkpoint, or" in told(capsys, argv(folders))


def test_grey_labels_are_reported_and_thresholded(folders, capsys):
    label = cv2.imread(str(folders / "labels" / "im0.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folders / "labels" / "im0.png"), np.where(label > 0, 200, 90).astype(np.uint8))
    evaluate.main(argv(folders, predictions=folders / "predictions"))
    assert "label of im0 has more than two levels" in capsys.readouterr().err
    report = json.loads((folders / "report" / "metrics.json").read_text())
    assert report["per_image"][0]["mIoU"] == 1


def test_error_map_colours_tell_the_four_cases_apart():
    label = np.array([[True, True, False, False]])
    prediction = np.array([[True, False, True, False]])
    drawn = pictures.error_map(label, prediction)[0]
    assert [tuple(pixel) for pixel in drawn] == [
        pictures.FOUND, pictures.MISSED, pictures.INVENTED, pictures.EMPTY,
    ]  # fmt: skip


def test_two_masks_are_reported_apart(tmp_path):
    """Metal and vias: a row and a line of the table each, both in one picture."""
    rng = np.random.default_rng(0)
    evaluation = evaluate.Evaluation(("label", "via_label"), 0.5, keep=1)
    label = rng.random((32, 32, 2)) > 0.5
    probabilities = label.astype(np.float32)
    probabilities[..., 1] = 0
    example = {"name": "a", "image": rng.random((32, 32, 1), np.float32), "label": label}
    evaluation.add(example, probabilities, 0.25)
    evaluation.write(tmp_path)
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["mean"]["label"]["Dice"] == 1 and summary["mean"]["via_label"]["Dice"] == 0
    assert summary["loss"] == 0.25
    lines = evaluation.table().splitlines()
    assert lines[1].startswith("label ") and lines[2].startswith("via_label ")
    picture = cv2.imread(str(tmp_path / "worst_1_a.png"))
    assert picture.shape[0] > 700


def test_batches_keep_images_of_one_size_together():
    sizes = [4, 4, 4, 8, 8, 4]
    examples = [{"image": np.zeros((size, size, 1))} for size in sizes]
    runs = [[e["image"].shape[0] for e in run] for run in evaluate._batches(examples, 2)]
    assert runs == [[4, 4], [4], [8, 8], [4]]
