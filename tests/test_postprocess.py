"""Specks and pinholes."""

import numpy as np
import pytest

from eal_icnet_jax import postprocess
from eal_icnet_jax.errors import UserError


def test_specks_go_and_holes_close_below_their_areas_alone():
    mask = np.zeros((40, 60), bool)
    mask[5:30, 5:40] = True
    mask[10:12, 10:13] = False  # a hole of 6
    mask[20:24, 20:22] = False  # a hole of 8
    mask[2, 50:55] = True  # a speck of 5
    mask[35, 50:56] = True  # one of 6
    mask[38, 3] = mask[39, 4] = True  # one of 2, by its corner
    want = mask.copy()
    want[10:12, 10:13] = True
    want[2, 50:55] = False
    want[38, 3] = want[39, 4] = False
    np.testing.assert_array_equal(postprocess.cleaned(mask, 6, 7), want)
    np.testing.assert_array_equal(postprocess.cleaned(mask, 0, 0), mask)


def test_a_notch_of_the_images_edge_is_no_hole():
    mask = np.ones((9, 9), bool)
    mask[0, 4] = mask[8, 8] = False
    np.testing.assert_array_equal(postprocess.cleaned(mask, 0, 50), mask)


def test_a_speck_in_a_hole_goes_before_the_hole_closes():
    mask = np.ones((20, 20), bool)
    mask[5:10, 5:10] = False
    mask[7, 7] = True
    assert postprocess.cleaned(mask, 2, 26).all()
    assert not postprocess.cleaned(mask, 2, 25).all()


def test_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    changed = []
    for specks, holes in ((9, 0), (0, 9), (5, 12), (20, 20)):
        for density in (0.3, 0.5, 0.6, 0.8):
            mask = rng.random((90, 110)) < density
            whole = postprocess.cleaned(mask, specks, holes)
            changed.append(np.any(whole != mask))
            for top in range(0, 90, 23):
                for left in range(0, 110, 31):
                    rows, columns = slice(top, min(top + 23, 90)), slice(left, min(left + 31, 110))
                    part = postprocess.cleaned_part(mask, rows, columns, specks, holes)
                    np.testing.assert_array_equal(part, whole[rows, columns])
    assert np.mean(changed) > 0.7


def test_areas_are_checked():
    with pytest.raises(UserError, match="--fill-holes is -1: name an area of 0 to 4096 pixels"):
        postprocess.check(0, -1)
    with pytest.raises(UserError, match="--remove-specks is 5000"):
        postprocess.check(5000, 0)
