"""Evaluation of a set of images: the table, the files, and the order of the rows."""

import csv
import json

import cv2
import numpy as np
import pytest

from eal_icnet_jax.evaluation import evaluation, metrics
from eal_icnet_jax.evaluation.evaluation import Evaluation, compare_masks
from eal_icnet_jax.imaging import image_folders
from eal_icnet_jax.system.errors import UserError
from tests.imaging.sample_images import pixels


def example(name, size=32, labels=1):
    rng = np.random.default_rng(sum(name.encode()))
    return {
        "name": name,
        "image": rng.random((size, size, 1), np.float32),
        "label": rng.random((size, size, labels)) > 0.5,
        "valid": np.ones((size, size, 1), bool),
    }


def evaluate(names, keep=1, folder=None):
    """Evaluate examples, each predicted worse than the one before, and write the result."""
    out = Evaluation(("label",), 0.5, keep)
    for number, name in enumerate(names):
        added = example(name)
        prediction = added["label"].astype(np.float32)
        prediction[: 4 * number] = 1 - prediction[: 4 * number]
        out.add(added, prediction, None)
    if folder is not None:
        out.write(folder)
    return out


def pictures_in(folder):
    return {path.name for path in folder.glob("*.png")}


def test_the_files_hold_the_metrics_of_each_image(tmp_path):
    written = evaluate("abcd", keep=2, folder=tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list("abcd")
    label = example("b")["label"][..., 0]
    prediction = label.copy()
    prediction[:4] ^= True
    for name, value in metrics.evaluate_masks(label, prediction).items():
        assert float(rows[1][name]) == pytest.approx(value)
    report = json.loads((tmp_path / "metrics.json").read_text())
    extra = {"software": "eal-icnet-jax", "pictures": report["pictures"]}
    assert report == {**written.report(), **extra}
    assert report["images"] == 4 and "loss" not in report
    mean = np.mean([float(row["mIoU"]) for row in rows])
    assert report["mean"]["label"]["mIoU"] == pytest.approx(mean)


def test_the_worst_and_best_images_are_drawn_in_order(tmp_path):
    evaluate("abcd", keep=2, folder=tmp_path)
    names = {"worst_1_d.png", "worst_2_c.png", "best_1_a.png", "best_2_b.png", "reliability.png"}
    assert pictures_in(tmp_path) == names
    assert set(json.loads((tmp_path / "metrics.json").read_text())["pictures"]) == names


def test_pictures_of_the_last_evaluation_are_removed_and_the_users_own_are_kept(tmp_path):
    own = {"best_shot.png", "worst_1_mine.png", "best_9_z.png"}
    for name in own:
        (tmp_path / name).write_bytes(b"the user's own")
    evaluate("abc", folder=tmp_path)
    assert pictures_in(tmp_path) == own | {"worst_1_c.png", "best_1_a.png", "reliability.png"}
    evaluate("ab", folder=tmp_path)
    assert pictures_in(tmp_path) == own | {"worst_1_b.png", "best_1_a.png", "reliability.png"}
    assert all((tmp_path / name).read_bytes() == b"the user's own" for name in own)


@pytest.mark.parametrize("names", ['["../a.png", "a.txt", 1]', "7", "{}", '"a.png"'])
def test_a_metrics_file_that_was_changed_makes_nothing_else_removed(tmp_path, names):
    folder = tmp_path / "report"
    folder.mkdir()
    for path in (tmp_path / "a.png", folder / "a.txt", folder / "a.png"):
        path.write_bytes(b"")
    (folder / "metrics.json").write_text(f'{{"software": "eal-icnet-jax", "pictures": {names}}}')
    evaluate("ab", folder=folder)
    assert (tmp_path / "a.png").exists() and (folder / "a.txt").exists()
    assert (folder / "a.png").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "metrics.json", "worst_1_b.png"])
def test_only_reports_of_this_program_are_replaced(tmp_path, name):
    evaluate("ab", keep=1, folder=tmp_path / "own")
    evaluate("ab", keep=1, folder=tmp_path / "own")  # replaces its own files
    (tmp_path / name).write_bytes(b"of another program")
    with pytest.raises(UserError, match="exists and was not written by this program"):
        evaluate("ab", keep=1, folder=tmp_path)
    assert (tmp_path / name).read_bytes() == b"of another program"


def test_each_mask_has_a_row_of_the_table_and_of_the_picture(tmp_path):
    both = Evaluation(("label", "via_label"), 0.5, keep=1)
    added = example("a", labels=2)
    probabilities = added["label"].astype(np.float32)
    probabilities[..., 1] = 0
    both.add(added, probabilities, 0.25)
    both.write(tmp_path)
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["mean"]["label"]["Dice"] == 1 and report["mean"]["via_label"]["Dice"] == 0
    assert report["loss"] == 0.25
    headings, *rows = (line.split() for line in both.table().splitlines())
    assert headings == ["label", *metrics.METRICS, "opens", "shorts", "FP", "FN", "nets"]
    assert [row[0] for row in rows] == ["label", "via_label"]
    assert rows[0][headings.index("Dice")] == "100.00"
    assert pixels(tmp_path / "worst_1_a.png").shape[0] > 700


def test_columns_of_the_table_are_aligned_and_counts_have_separators():
    large = Evaluation(("label",), 0.5, keep=0)
    large.add(example("a"), np.ones((32, 32, 1)), None)
    large.rows[0]["nets"] = 12345
    heading, row = large.table().splitlines()
    assert len(heading) == len(row) and row.endswith("12,345") and heading.endswith("  nets")


def test_shares_of_several_processes_are_merged_in_the_order_of_the_images():
    expected = evaluate("abcde").rows
    for count in (2, 3, 6):
        merged = Evaluation(("label",), 0.5, 0)
        merged.merge_shares([expected[k::count] for k in range(count)])
        assert merged.rows == expected
    with pytest.raises(UserError, match="no image to evaluate"):
        Evaluation(("label",), 0.5, 0).merge_shares([[], []])


def test_batches_hold_consecutive_images_of_one_size():
    sizes = [4, 4, 4, 8, 8, 4]
    examples = [{"image": np.zeros((size, size, 1))} for size in sizes]
    batches = [[e["image"].shape[0] for e in batch] for batch in evaluation._batches(examples, 2)]
    assert batches == [[4, 4], [4], [8, 8], [4]]


def test_grey_labels_are_thresholded_with_a_warning(tmp_path, capsys):
    for name in ("labels", "predictions"):
        (tmp_path / name).mkdir()
    mask = 255 * example("a")["label"][..., 0].astype(np.uint8)
    cv2.imwrite(str(tmp_path / "predictions/a.png"), mask)
    cv2.imwrite(str(tmp_path / "labels/a.png"), np.where(mask > 0, 200, 90).astype(np.uint8))
    pairs, _ = image_folders.find_pairs(tmp_path / "predictions", tmp_path / "labels")
    compared = compare_masks(pairs, 0)
    assert "labels/a.png has the levels 90 and 200: 200 is foreground" in capsys.readouterr().err
    assert compared.rows[0]["mIoU"] == 1
