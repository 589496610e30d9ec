"""Options of prediction that make no sense are refused when they are made."""

import math
import pathlib

import pytest

from eal_icnet_jax.inference.prediction_options import (
    LayoutOutput,
    PredictionOptions,
    check_threshold,
)
from eal_icnet_jax.system.errors import UserError


@pytest.mark.parametrize("threshold", [-0.1, 1.5, 128, math.nan, math.inf])
def test_a_threshold_that_is_not_a_probability_is_refused(threshold):
    with pytest.raises(UserError, match=f"--threshold is {threshold}: name a probability"):
        check_threshold(threshold)


@pytest.mark.parametrize("threshold", [0, 0.5, 1])
def test_a_probability_is_a_threshold(threshold):
    check_threshold(threshold)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 2.0}, "--threshold is 2.0: name a probability from 0 to 1"),
        ({"window": 0}, "--window is 0: name 1 or more pixels"),
        (
            {"window": 96, "overlap": 60},
            "--overlap is 60: a window of 96 pixels overlaps by 0 to 48",
        ),
        ({"overlap": -1}, "--overlap is -1: name 0 or more pixels"),
        ({"batch": 0}, "--batch is 0: name 1 or more windows"),
        ({"format": "png"}, "--format is png: name tiff or zarr"),
        ({"fill_holes": 9999}, "--fill-holes is 9999: name an area of 0 to 4096 pixels"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(UserError) as caught:
        PredictionOptions(input=pathlib.Path("a"), output=pathlib.Path("b"), **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "classes", "expected"),
    [
        (None, 1, ("metal",)),
        (None, 2, ("metal", "via")),
        (("via",), 1, ("via",)),
        (("via", "metal"), 2, ("via", "metal")),
        (("metal",), 2, None),
        (("metal", "metal"), 2, None),
        (("metal", "poly"), 2, None),
        (None, 3, None),
    ],
)
def test_each_mask_has_one_kind_of_the_layout(tmp_path, kinds, classes, expected):
    layout = LayoutOutput(tmp_path / "x.gds", kinds)
    if expected is not None:
        assert layout.kinds_of(classes) == expected
        return
    with pytest.raises(UserError, match="name one kind for each, out of metal, via"):
        layout.kinds_of(classes)
