"""Drawn dies: one geometry over all fields of view, exact masks, whole or nothing."""

import filecmp

import numpy as np
import pytest
from eal_icnet_jax.datasets.ic_synthetic import die

from eal_icnet_jax import images, mosaics, sample_die
from eal_icnet_jax.errors import UserError


@pytest.fixture(scope="module")
def fields():
    """Two fields side by side, and the die that they are of."""
    drawn = die.Die(700, 1400, seed=2)
    assert drawn.fields() == (1, 2)
    return drawn, [die.draw_field(drawn, k) for k in range(2)]


def test_fields_meet(fields):
    """Metal goes on over the border of two fields, to within a pixel of its edges."""
    _, (left, right) = fields
    assert left["image"].shape == (700, 1024, 3) and right["metal"].shape == (700, 376)
    for name in ("metal", "via"):
        a, b = left[name][:, -1] > 0, right[name][:, 0] > 0
        reach = np.convolve(b, np.ones(5), "same") > 0
        assert np.all(reach[a]), name
    metal = left["metal"] > 0
    assert 0.1 < metal.mean() < 0.9
    # As a cut through one field: a border is no odder than any other column.
    changes = np.mean(metal[:, 1:] != metal[:, :-1], axis=0)
    at_border = np.mean((left["metal"][:, -1] > 0) != (right["metal"][:, 0] > 0))
    assert at_border < changes.mean() + 0.05


def test_a_field_is_a_function_of_the_die_and_its_number(fields):
    drawn, drawn_fields = fields
    die.layers_of.cache_clear()
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
        mosaic = mosaics.open_mosaic(tmp_path / "a" / f"{name}.ome.tif")
        assert mosaic.pixel_size == (0.1, 0.1)
        want = np.concatenate([left[name], right[name]], 1)
        np.testing.assert_array_equal(mosaic[0:700, 0:1400], want)
    sample_die.write_die(tmp_path / "b", drawn, 0.1)
    assert filecmp.cmp(tmp_path / "a/image.ome.tif", tmp_path / "b/image.ome.tif", shallow=False)


def test_a_given_mask_is_drawn_as_metal(tmp_path, capsys):
    mask = np.zeros((150, 200), np.uint8)
    mask[40:60, 20:180] = mask[60:120, 90:110] = 255
    images.write(tmp_path / "mask.png", mask)
    sample_die.main([str(tmp_path / "out"), f"--metal={tmp_path / 'mask.png'}", "--electron"])
    assert "200x150 pixels" in capsys.readouterr().out
    metal = mosaics.open_mosaic(tmp_path / "out/metal.ome.tif")[0:150, 0:200]
    image = mosaics.open_mosaic(tmp_path / "out/image.ome.tif")[0:150, 0:200]
    assert np.mean(metal != mask) < 0.03  # corners are rounded, edges rough
    assert image.ndim == 2
    assert image[metal > 0].mean() > image[metal == 0].mean() + 30


def test_bad_arguments_are_told(tmp_path):
    with pytest.raises(UserError, match="exists: name a new folder"):
        sample_die.write_die(tmp_path, die.Die(700, 1400), 0.1)
    for argument, told in (
        ("--size=8", "the die is 8x8: draw at least 64x64"),
        ("--pixel-size=0", "--pixel-size is 0.0"),
    ):
        arguments = sample_die.parser().parse_args([str(tmp_path / "x"), argument])
        with pytest.raises(UserError, match=told):
            sample_die.run(arguments)
    assert not list(tmp_path.iterdir())
