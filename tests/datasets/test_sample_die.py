"""Drawn dies: one geometry for all fields of view, exact masks, and errors leave no folder."""

import csv
import filecmp

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die, sample_die
from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.system.errors import UserError
from tests import cli


@pytest.fixture(scope="module")
def fields():
    """A die, and its two fields side by side."""
    drawn = die.Die(700, 1400, seed=2)
    assert drawn.fields() == (1, 2)
    return drawn, [die.draw_field(drawn, k) for k in range(2)]


def test_fields_meet(fields):
    """Metal continues over the border of two fields, to within a pixel of its edges."""
    _, (left, right) = fields
    assert left["image"].shape == (700, 1024, 3) and right["metal"].shape == (700, 376)
    for name in ("metal", "via"):
        a, b = left[name][:, -1] > 0, right[name][:, 0] > 0
        reach = np.convolve(b, np.ones(5), "same") > 0
        assert np.all(reach[a]), name
    metal = left["metal"] > 0
    assert 0.1 < metal.mean() < 0.9
    # Masks change about as much over the border as between two columns of a field.
    changes = np.mean(metal[:, 1:] != metal[:, :-1], axis=0)
    at_border = np.mean((left["metal"][:, -1] > 0) != (right["metal"][:, 0] > 0))
    assert at_border < changes.mean() + 0.05


def test_a_field_is_a_function_of_the_die_and_its_number(fields):
    drawn, drawn_fields = fields
    die.geometry_of.cache_clear()
    again = die.draw_field(drawn, 1)
    for name, value in again.items():
        np.testing.assert_array_equal(value, drawn_fields[1][name])
    other = die.draw_field(die.Die(700, 1400, seed=3), 1)
    assert np.mean(other["metal"] != again["metal"]) > 0.1


def test_a_die_is_written_as_its_fields(fields, tmp_path):
    drawn, (left, right) = fields
    sample_die.write_die(tmp_path / "a", drawn, 0.1)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "image.ome.tif", "metal.ome.tif", "via.ome.tif"
    }  # fmt: skip
    for name in ("image", "metal", "via"):
        mosaic = mosaic_files.open_mosaic(tmp_path / "a" / f"{name}.ome.tif")
        assert mosaic.pixel_size == (0.1, 0.1)
        expected = np.concatenate([left[name], right[name]], 1)
        np.testing.assert_array_equal(mosaic[0:700, 0:1400], expected)
    sample_die.write_die(tmp_path / "b", drawn, 0.1)
    assert filecmp.cmp(tmp_path / "a/image.ome.tif", tmp_path / "b/image.ome.tif", shallow=False)


def test_layers_of_a_stack_fit(tmp_path):
    """Vias end on metal below and above, and their layer is the same for every number."""
    shape = 900, 1000
    drawn = die.Die(*shape, seed=1, metals=2)
    sample_die.write_die(tmp_path / "stack", drawn, 0.1)

    def mask(layer, name):
        mosaic = mosaic_files.open_mosaic(tmp_path / "stack" / f"layer{layer}" / f"{name}.ome.tif")
        return mosaic[0 : shape[0], 0 : shape[1]] > 0

    metal1, via1, metal2 = mask(1, "metal"), mask(1, "via"), mask(2, "metal")
    assert via1.any() and metal1[via1].all() and metal2[via1].all()
    assert np.mean(metal1 != metal2) > 0.1
    assert not (tmp_path / "stack/layer2/via.ome.tif").exists()
    top = die.draw_field(die.Die(*shape, seed=1, metals=2, number=2), 0)
    np.testing.assert_array_equal(top["metal"] > 0, metal2)
    with (tmp_path / "stack/nets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == sample_die.NET_COLUMNS
    layers = {"metal1": metal1, "via1": via1, "metal2": metal2}
    for name, layer in layers.items():
        mine = [row for row in rows if row["layer"] == name]
        assert sum(int(row["pixels"]) for row in mine) == layer.sum()
        assert all(layer[int(row["y"]), int(row["x"])] for row in mine)


def test_a_given_mask_is_drawn_as_metal(tmp_path):
    mask = np.zeros((150, 200), np.uint8)
    mask[40:60, 20:180] = mask[60:120, 90:110] = 255
    png.write(tmp_path / "mask.png", mask)
    result = cli.run(
        "draw", "die", tmp_path / "out", f"--metal={tmp_path / 'mask.png'}", "--electron"
    )
    assert result.returncode == 0, result.stderr
    assert "200x150 pixels" in result.stdout
    metal = mosaic_files.open_mosaic(tmp_path / "out/metal.ome.tif")[0:150, 0:200]
    image = mosaic_files.open_mosaic(tmp_path / "out/image.ome.tif")[0:150, 0:200]
    assert np.mean(metal != mask) < 0.03  # corners are rounded, edges rough
    assert image.ndim == 2
    assert image[metal > 0].mean() > image[metal == 0].mean() + 30


def test_an_existing_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match="exists: name a new folder"):
        sample_die.write_die(tmp_path, die.Die(700, 1400), 0.1)


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("--size=8", "the die is 8x8: draw at least 64x64"),
        ("--pixel-size=0", "--pixel-size is 0.0"),
        ("--seed=-1", "--seed is -1: it must be at least 0"),
        ("--metals=5", "--metals is 5: name 1 to 4"),
    ],
)
def test_bad_arguments_are_reported(tmp_path, argument, expected):
    assert expected in cli.error_of("draw", "die", tmp_path / "new", argument)
    assert not list(tmp_path.iterdir())
