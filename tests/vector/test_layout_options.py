import pytest

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import layout_options
from eal_icnet_jax.vector.layout_options import ShapeOptions, square_pixel_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": float("nan")}, "--tolerance is nan: it must be 0 or more pixels"),
        ({"tolerance": float("inf")}, "--tolerance is inf: it must be 0 or more pixels"),
        ({"tolerance": -0.1}, "--tolerance is -0.1: it must be 0 or more pixels"),
        ({"jog": float("nan")}, "--jog is nan: it must be 0 or more pixels"),
        ({"jog": float("inf")}, "--jog is inf: it must be 0 or more pixels"),
        ({"jog": -1}, "--jog is -1: it must be 0 or more pixels"),
        ({"min_area": float("nan")}, "min_area is nan: it must be 0 or more pixels"),
        ({"via_shape": "star"}, "--via-shape is star: name circle, box, outline"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        ShapeOptions(**options)


def test_the_named_pixel_size_goes_before_that_of_the_file():
    assert square_pixel_size((0.02, 0.02)) == 0.02
    assert square_pixel_size((0.02, 0.03), 0.5) == 0.5
    assert square_pixel_size(None) is None


def test_pixels_that_are_not_square_are_refused():
    with pytest.raises(UserError, match=r"pixels are 0\.03 x 0\.02 micrometres .* --pixel-size"):
        square_pixel_size((0.02, 0.03))


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
def test_a_pixel_size_that_is_not_positive_is_refused(size):
    with pytest.raises(UserError, match="it must be above 0 micrometres"):
        square_pixel_size(None, size)


def test_a_layout_needs_a_known_ending_and_an_existing_folder(tmp_path):
    layout_options.check_layout_path(tmp_path / "a.GDS")
    with pytest.raises(UserError, match=r"a\.dxf names no layout: let it end in \.gds, \.oas"):
        layout_options.check_layout_path(tmp_path / "a.dxf")
    with pytest.raises(UserError, match="is not a folder: make it"):
        layout_options.check_layout_path(tmp_path / "no" / "a.gds")
