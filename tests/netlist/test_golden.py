"""Differences from a golden layout: planted ones are found, and hardly any others."""

import csv
import re

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.imaging import png
from eal_icnet_jax.imaging.regions import connected_regions
from eal_icnet_jax.vector.layout_files import write_layout
from eal_icnet_jax.vector.layout_options import ShapeOptions
from tests import cli
from tests.netlist.planted_changes import plant

kdb = pytest.importorskip("klayout.db")

SIDE = 0.1
COUNTS = {"moved": 2, "cut": 4, "bridge": 4, "missing via": 3, "added via": 3, "thinned": 4}
EXACT = ShapeOptions(tolerance=0, via_shape="outline")


@pytest.fixture(scope="module")
def masks():
    """Metal and vias of a drawn die."""
    field = die.draw_field(die.Die(1024, 1024, seed=5), 0)
    return field["metal"] > 0, field["via"] > 0


def written(path, metal, via, move=(0.0, 0.0)):
    """Write a layout, moved by micrometres."""
    write_layout(path, {"metal": metal, "via": via}, SIDE, EXACT)
    layout = kdb.Layout()
    layout.read(str(path))
    layout.top_cell().transform(kdb.DTrans(*move))
    layout.write(str(path))
    return path


def report(folder):
    with (folder / "differences.csv").open() as file:
        return list(csv.DictReader(file))


def found_places(rows, places):
    """Return which planted places a row's box reaches, and how many rows reach none."""
    hit, false = set(), 0
    for row in rows:
        left, top, right, bottom = (int(row[key]) for key in ("left", "top", "right", "bottom"))
        mine = {
            k
            for k, (kind, x, y) in enumerate(places)
            if left - 36 <= x <= right + 36 and top - 36 <= y <= bottom + 36
            and kind.endswith("via") == row["kind"].endswith("via")
        }  # fmt: skip
        hit |= mine
        false += not mine
    return hit, false


@pytest.mark.parametrize("seed", range(2))
def test_planted_changes_are_found_and_hardly_any_others(masks, tmp_path, seed):
    metal, via, places = plant(*masks, COUNTS, seed)
    golden = written(tmp_path / "golden.gds", *masks, move=(700.0, -200.0))
    found = written(tmp_path / "found.gds", metal, via, move=(13.37, 4.2))
    out = tmp_path / "report"
    result = cli.call("diff", golden, found, "-o", out, f"--pixel-size={SIDE}")
    assert result.returncode == 0, result.stderr
    rows = report(out)
    hit, false = found_places(rows, places)
    assert len(hit) >= len(places) - 1, [places[k] for k in range(len(places)) if k not in hit]
    nets = len(connected_regions(masks[0])[1]) - 1
    assert false <= max(1, nets // 200)
    effects = {row["number"]: row["effects"] for row in rows}
    assert sum("short" in effect for effect in effects.values()) >= COUNTS["bridge"]
    assert sum("open" in effect for effect in effects.values()) >= COUNTS["cut"] - 1
    kinds = [row["kind"] for row in rows]
    assert kinds.count("missing via") == 3 and kinds.count("added via") == 3
    assert len(list((out / "crops").iterdir())) == len(rows)
    database = pytest.importorskip("klayout.rdb").ReportDatabase("")
    database.load(str(out / "differences.lyrdb"))
    assert database.num_items() == len(rows)
    x, y = float(rows[0]["x"]), float(rows[0]["y"])
    assert 700 <= x <= 803 and -200 <= y <= -97  # in the frame of the golden layout


def test_a_turned_mask_is_compared_with_a_layout(masks, tmp_path):
    metal, _, places = plant(*masks, {"cut": 2, "bridge": 2}, 0)
    golden = written(tmp_path / "golden.oas", *masks)
    png.write(tmp_path / "found.png", 255 * np.rot90(metal[:, ::-1]).astype(np.uint8), (SIDE, SIDE))
    out = tmp_path / "report"
    result = cli.call("diff", golden, tmp_path / "found.png", "-o", out)
    assert result.returncode == 0, result.stderr
    assert "lies mirrored and turned by" in result.stderr
    rows = report(out)
    hit, false = found_places(rows, places)
    assert len(hit) == 4 and false <= 1


def test_equal_layouts_have_no_differences(masks, tmp_path):
    golden = written(tmp_path / "golden.gds", *masks)
    result = cli.call("diff", golden, golden, "-o", tmp_path / "out", f"--pixel-size={SIDE}")
    assert "100.00% of the metal is in both" in result.stdout
    assert "0 differences" in result.stdout
    assert report(tmp_path / "out") == []


def test_a_layout_without_vias_lacks_all_of_them(masks, tmp_path):
    golden = written(tmp_path / "golden.gds", *masks)
    write_layout(tmp_path / "found.gds", {"metal": masks[0]}, SIDE, EXACT)
    out, size = tmp_path / "out", f"--pixel-size={SIDE}"
    assert cli.call("diff", golden, tmp_path / "found.gds", "-o", out, size).returncode == 0
    vias = len(connected_regions(masks[1])[1]) - 1
    assert [row["kind"] for row in report(out)] == ["missing via"] * vias
    png.write(tmp_path / "found.png", 255 * masks[0].astype(np.uint8), (SIDE, SIDE))
    result = cli.call("diff", golden, tmp_path / "found.png", "-o", out)
    assert result.returncode == 0 and report(out) == []
    assert "vias are not compared: no mask of the vias of" in result.stderr


def test_what_lies_beyond_one_side_is_said(masks, tmp_path):
    golden = written(tmp_path / "golden.gds", *masks)
    found = written(tmp_path / "half.gds", masks[0][:512], masks[1][:512])
    for first, second in ((golden, found), (found, golden)):
        result = cli.call("diff", first, second, "-o", tmp_path / "out", f"--pixel-size={SIDE}")
        share = 1 - masks[0][:512].sum() / masks[0].sum()
        said = float(
            re.search(r"([\d.]+)% of the metal of .*golden.gds lies beyond", result.stderr)[1]
        )
        assert said == pytest.approx(100 * share, abs=1)
        assert "0 differences" in result.stdout


def test_masks_of_other_pixels_are_resampled(masks, tmp_path):
    png.write(tmp_path / "golden.png", 255 * masks[0].astype(np.uint8), (SIDE, SIDE))
    fine = np.kron(masks[0], np.full((2, 2), 255, np.uint8))
    png.write(tmp_path / "fine.png", fine, (SIDE / 2, SIDE / 2))
    result = cli.call(
        "diff", tmp_path / "golden.png", tmp_path / "fine.png", "-o", tmp_path / "out"
    )
    assert "fine.png states pixels of 0.05 micrometres, and is compared" in result.stderr
    assert "0 differences" in result.stdout


def test_pictures_of_other_programs_are_kept(masks, tmp_path):
    golden = written(tmp_path / "golden.gds", *masks)
    mine = tmp_path / "out" / "crops" / "7.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    error = cli.error_of("diff", golden, golden, "-o", tmp_path / "out", f"--pixel-size={SIDE}")
    assert "7.png exists and was not written by this program" in error
    assert mine.read_text() == "mine"


def test_what_cannot_be_compared_is_reported(masks, tmp_path):
    golden = written(tmp_path / "golden.gds", *masks)
    out = tmp_path / "out"
    assert "name --pixel-size, such as a tenth" in cli.error_of("diff", golden, golden, "-o", out)
    size = f"--pixel-size={SIDE}"
    other = die.draw_field(die.Die(1024, 1024, seed=9), 0)["metal"]
    png.write(tmp_path / "other.png", other, (SIDE, SIDE))
    error = cli.error_of("diff", golden, tmp_path / "other.png", "-o", out)
    assert "they do not show the same layer" in error
    error = cli.error_of("diff", golden, golden, "-o", out, size, f"--found-via={golden}")
    assert "--found-via is for masks, and" in error
    vias = tmp_path / "vias.gds"
    write_layout(vias, {"via": masks[1]}, SIDE)
    assert "has no metal on layer 1/0" in cli.error_of("diff", golden, vias, "-o", out, size)
    assert "name 0 to 100 pixels" in cli.error_of(
        "diff", golden, golden, "-o", out, size, "--tolerance=0"
    )
    assert not out.exists()
    # A golden layout in other units is a thousand times as large.
    layout = kdb.Layout()
    layout.read(str(golden))
    layout.dbu *= 1000
    layout.write(str(tmp_path / "units.gds"))
    error = cli.error_of("diff", tmp_path / "units.gds", golden, "-o", out, size)
    assert "units.gds is 10" in error and "or write it in its right units" in error
