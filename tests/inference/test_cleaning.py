"""Removal of specks and filling of holes."""

import numpy as np
import pytest

from eal_icnet_jax.inference import cleaning
from eal_icnet_jax.system.errors import UserError


def test_only_specks_and_holes_below_their_areas_are_changed():
    mask = np.zeros((40, 60), bool)
    mask[5:30, 5:40] = True
    mask[10:12, 10:13] = False  # a hole of 6 pixels
    mask[20:24, 20:22] = False  # a hole of 8
    mask[2, 50:55] = True  # a speck of 5
    mask[35, 50:56] = True  # a speck of 6
    mask[38, 3] = mask[39, 4] = True  # a speck of 2, connected by a corner
    expected = mask.copy()
    expected[10:12, 10:13] = True
    expected[2, 50:55] = False
    expected[38, 3] = expected[39, 4] = False
    np.testing.assert_array_equal(cleaning.clean_mask(mask, 6, 7), expected)
    np.testing.assert_array_equal(cleaning.clean_mask(mask, 0, 0), mask)


def test_a_notch_in_the_images_edge_is_not_a_hole():
    mask = np.ones((9, 9), bool)
    mask[0, 4] = mask[8, 8] = False
    np.testing.assert_array_equal(cleaning.clean_mask(mask, 0, 50), mask)


def test_specks_are_removed_before_holes_are_filled():
    mask = np.ones((20, 20), bool)
    mask[5:10, 5:10] = False
    mask[7, 7] = True
    assert cleaning.clean_mask(mask, 2, 26).all()
    assert not cleaning.clean_mask(mask, 2, 25).all()


def test_cleaned_parts_are_those_of_the_cleaned_image():
    rng = np.random.default_rng(0)
    has_changed = []
    for specks, holes in ((9, 0), (0, 9), (5, 12), (20, 20)):
        for density in (0.3, 0.5, 0.6, 0.8):
            mask = rng.random((90, 110)) < density
            cleaned = cleaning.clean_mask(mask, specks, holes)
            has_changed.append(np.any(cleaned != mask))
            for top in range(0, 90, 23):
                for left in range(0, 110, 31):
                    rows, columns = slice(top, min(top + 23, 90)), slice(left, min(left + 31, 110))
                    part = cleaning.clean_part(mask, rows, columns, specks, holes)
                    np.testing.assert_array_equal(part, cleaned[rows, columns])
    assert np.mean(has_changed) > 0.7


def test_areas_out_of_range_are_refused():
    with pytest.raises(UserError, match="--fill-holes is -1: name an area of 0 to 4096 pixels"):
        cleaning.check_areas(0, -1)
    with pytest.raises(UserError, match="--remove-specks is 5000"):
        cleaning.check_areas(5000, 0)
