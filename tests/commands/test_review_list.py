"""`eal-icnet review-list`: the list of a drawn photograph, its files and its refusals."""

import csv
import json

import cv2
import numpy as np
import pytest
import tifffile

from eal_icnet_jax.datasets.ic_synthetic import examples
from tests import cli
from tests.imaging.sample_images import pixels

TINY = next(kind for kind in examples.KINDS if kind.name == "tiny")


@pytest.fixture
def photograph(tmp_path):
    image = examples.draw_example(TINY, "test", 0)["image"]
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), image[..., ::-1])
    return path


def test_pictures_of_12_bits_are_as_bright_as_the_photograph(photograph, workdir, tmp_path):
    dark = tmp_path / "dark.tif"
    tifffile.imwrite(dark, pixels(photograph).astype(np.uint16) * 16, photometric="rgb")
    shown = []
    for path in (photograph, dark):
        out = tmp_path / path.stem
        cli.call("review-list", path, f"--output={out}", f"--checkpoint={workdir}", "--size=32",
                 "--count=1", "--pixel-size=0.5", "--scale=1")  # fmt: skip
        shown.append(pixels(out / "background.png"))
    assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1


def test_a_list_has_a_table_pictures_and_markers(photograph, workdir, tmp_path):
    import klayout.rdb as rdb

    arguments = photograph, f"--output={tmp_path / 'out'}", f"--checkpoint={workdir}", "--size=32"
    result = cli.call("review-list", *arguments, "--tta", "--count=3", "--pixel-size=0.5")
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader((tmp_path / "out/places.csv").open()))
    assert rows and {row["rank"] for row in rows} <= {"1", "2", "3"}
    probability = pixels(tmp_path / "out/photo_probability.png") / 65535
    unsure = pixels(tmp_path / "out/photo_uncertainty.png") / 65535
    for row in rows:
        x, y = int(row["x"]), int(row["y"])
        assert float(row["probability"]) == pytest.approx(probability[y, x], abs=1e-4)
        assert float(row["uncertainty"]) == pytest.approx(unsure[y, x], abs=1e-4)
        assert unsure[y, x] >= 1 - abs(2 * probability[y, x] - 1) - 1e-4
    ranks = {row["rank"] for row in rows}
    assert sorted(path.name for path in (tmp_path / "out/crops").iterdir()) == [
        f"{int(rank):04}.png" for rank in sorted(ranks)
    ]
    report = json.loads((tmp_path / "out/places.json").read_text())
    assert len(report["places"]) == len(rows) and report["image"]["input"] == "photo.png"

    database = rdb.ReportDatabase("")
    database.load(str(tmp_path / "out/places.lyrdb"))
    assert database.num_items() == len(rows) + len(ranks)
    boxes = [
        value.box()
        for item in database.each_item()
        for value in item.each_value()
        if value.is_box()
    ]
    first = rows[0]
    centre = (int(first["x"]) + 0.5) * 0.5, (96 - int(first["y"]) - 0.5) * 0.5
    assert any(
        abs(box.center().x - centre[0]) < 1e-6 and abs(box.center().y - centre[1]) < 1e-6
        for box in boxes
    )
    again = cli.call("review-list", *arguments, "--count=1")
    assert again.returncode == 0
    assert len(list((tmp_path / "out/crops").iterdir())) == 1


def test_a_calibration_is_taken_from_an_evaluation(photograph, workdir, tmp_path):
    arguments = photograph, f"--output={tmp_path / 'out'}", f"--checkpoint={workdir}", "--size=32"
    report = f"--calibration={workdir / 'test' / 'metrics.json'}"
    assert cli.call("review-list", *arguments, report).returncode == 0
    (tmp_path / "none.json").write_text("{}")
    error = cli.error_of("review-list", *arguments, f"--calibration={tmp_path / 'none.json'}")
    assert "holds no calibration" in error


def test_senseless_options_and_files_of_others_are_refused(photograph, workdir, tmp_path):
    arguments = photograph, f"--output={tmp_path / 'out'}", f"--checkpoint={workdir}"
    assert "name 1 square or more" in cli.error_of("review-list", *arguments, "--count=0")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out/places.csv").write_text("mine")
    error = cli.error_of("review-list", *arguments)
    assert "places.csv exists and was not written by this program" in error
    assert (tmp_path / "out/places.csv").read_text() == "mine"
