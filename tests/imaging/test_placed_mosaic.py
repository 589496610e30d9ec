"""Overlapping tiles as one mosaic."""

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.system.errors import UserError
from tests import cli, small_model

SIDE, STEP = 200, 170
"""Side of a tile, and distance of neighbours."""


@pytest.fixture(scope="module")
def whole():
    """A drawn photograph, RGB `[540, 540, 3]`."""
    return die.draw_field(die.Die(540, 540, seed=4), 0)["image"]


@pytest.fixture
def tiles(whole, tmp_path):
    """Nine tiles that overlap by 15%, each up to three pixels from its place in a grid."""
    rng = np.random.default_rng(0)
    lines = ["name,x,y"]
    for row in range(3):
        for column in range(3):
            y, x = (STEP * k + (0 if k == 0 else rng.integers(-3, 1)) for k in (row, column))
            png.write(tmp_path / f"t_{row}_{column}.png", whole[y : y + SIDE, x : x + SIDE])
            lines.append(f"t_{row}_{column}.png,{x + 1000},{y - 50}")
    path = tmp_path / "positions.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def pixels(mosaic):
    return mosaic[0 : mosaic.shape[0], 0 : mosaic.shape[1]]


def test_tiles_give_the_photograph_that_they_were_cut_from(tiles, whole):
    mosaic = mosaic_files.open_mosaic(tiles)
    assert mosaic.dtype == np.uint8 and not mosaic.notes
    assert min(mosaic.shape) >= 537  # the last tiles are up to three pixels from their place
    np.testing.assert_array_equal(mosaic[0:537, 0:537], whole[:537, :537])
    part = mosaic[150:190, 160:500]
    np.testing.assert_array_equal(part, whole[150:190, 160:500])


def test_steps_of_brightness_are_evened(tiles, whole):
    gains = np.random.default_rng(1).uniform(0.92, 1.08, 9)
    for gain, path in zip(gains, sorted(tiles.parent.glob("t_*.png")), strict=True):
        png.write(path, np.rint(np.minimum(pixels(mosaic_files.open_mosaic(path)) * gain, 255))
                  .astype(np.uint8))  # fmt: skip
    mosaic = mosaic_files.open_mosaic(tiles)
    assert any("is evened by factors from 0.9" in note for note in mosaic.notes)
    found = pixels(mosaic).astype(float)
    expected = whole[: found.shape[0], : found.shape[1]].astype(float)
    ratio = found.mean() / expected.mean()
    assert np.abs(found / ratio - expected)[:537, :537].mean() < 1.5
    steps = np.abs(np.diff((found / expected.clip(20))[:537, :537].mean((1, 2))))
    assert steps.max() < 0.02


def test_a_missing_tile_is_black_and_reported(tiles, whole):
    lines = tiles.read_text().splitlines()
    tiles.write_text("\n".join(line for line in lines if "t_1_1" not in line) + "\n")
    mosaic = mosaic_files.open_mosaic(tiles)
    assert any("no tile covers" in note and "black there" in note for note in mosaic.notes)
    assert not pixels(mosaic)[230:320, 230:320].any()
    np.testing.assert_array_equal(mosaic[0:150, 0:537], whole[:150, :537])


def test_a_pattern_with_an_overlap_needs_no_positions(whole, tmp_path):
    for row in range(3):
        for column in range(3):
            if (row, column) != (2, 0):
                part = whole[STEP * row :, STEP * column :][:SIDE, :SIDE]
                png.write(tmp_path / f"t_{row + 1}_{column + 1}.png", part)
    pattern = "t_{row}_{column}.png"
    mosaic = mosaic_files.open_mosaic(tmp_path, pattern, tile_overlap=0.15)
    assert mosaic.shape == (540, 540)
    assert "lacks 1 tiles of its grid (row 3 column 1)" in mosaic.notes
    np.testing.assert_array_equal(mosaic[0:360, 0:540], whole[:360])
    with pytest.raises(UserError, match="lacks 1 tiles of its grid"):
        mosaic_files.open_mosaic(tmp_path, pattern)


def test_results_follow_the_tiles(tiles):
    mosaic = mosaic_files.open_mosaic(tiles)
    before = mosaic.stamp()
    path = tiles.parent / "t_0_0.png"
    png.write(path, 255 - pixels(mosaic_files.open_mosaic(path)))
    assert mosaic_files.open_mosaic(tiles).stamp() != before


def test_positions_are_predicted_as_one_image(tiles, whole, tmp_path):
    checkpoint = small_model.save(tmp_path / "model", in_channels=3)
    out = tmp_path / "out"
    result = cli.call("predict", tiles, f"--output={out}", f"--checkpoint={checkpoint}")
    assert result.returncode == 0, result.stderr
    mosaic = mosaic_files.open_mosaic(tiles)
    png.write(tmp_path / "one.png", pixels(mosaic))
    cli.call("predict", tmp_path / "one.png", f"--output={out}", f"--checkpoint={checkpoint}")
    np.testing.assert_array_equal(*(pixels(mosaic_files.open_mosaic(out / f"{name}.png"))
                                    for name in ("positions", "one")))  # fmt: skip


def test_tiles_that_do_not_fit_are_reported(tiles):
    path = tiles.parent / "t_2_2.png"
    png.write(path, np.zeros((SIDE, SIDE), np.uint16))
    with pytest.raises(UserError, match=r"t_2_2.png is uint16 grey, and .*t_0_0.png uint8 RGB"):
        mosaic_files.open_mosaic(tiles)
    tiles.write_text("name,x,y\nt_0_0.png,0,0\nt_0_1.png,90000,90000\n")
    with pytest.raises(UserError, match=r"which they cover 0\.\d+%: positions must be"):
        mosaic_files.open_mosaic(tiles)
    error = cli.error_of("predict", tiles.parent, "-o", "out", "--tile-overlap=15")
    assert "--tile-overlap is for tiles whose names --tiles describes" in error
    error = cli.error_of("predict", tiles.parent, "-o", "out", "--tile-overlap=70", "--tiles=a")
    assert "--tile-overlap is 70: name 0 to 50 percent" in error
