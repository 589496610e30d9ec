import numpy as np
import pytest

from eal_icnet_jax.imaging import pixel_values
from eal_icnet_jax.system.errors import UserError


def test_grey_is_the_luma_of_itu_r_601():
    colour = np.array([[[200, 100, 50]]], np.uint8)
    assert pixel_values.to_unit_range(colour, 1)[0, 0, 0] * 255 == pytest.approx(124.2, abs=0.5)


def test_a_model_of_other_channels_than_1_or_3_is_refused():
    with pytest.raises(UserError, match="1 or 3 channels, but the model takes 2"):
        pixel_values.to_unit_range(np.zeros((4, 4), np.uint8), 2)


def test_16_bits_are_rounded_to_8():
    image = np.array([[0, 128, 129, 257, 65535]], np.uint16)
    np.testing.assert_array_equal(pixel_values.to_uint8(image, 1)[..., 0], [[0, 0, 1, 1, 255]])


@pytest.mark.parametrize(
    ("label", "mask", "two_levels"),
    [
        ([[0, 255]], [[False, True]], True),
        ([[0, 1]], [[False, True]], True),
        ([[0, 0]], [[False, False]], True),
        ([[255, 255]], [[True, True]], True),
        ([[128, 129]], [[False, True]], False),
        ([[0, 200]], [[False, True]], False),
        ([[0, 100]], [[False, False]], False),
    ],
)
def test_labels_become_masks(label, mask, two_levels):
    got, has_two_levels = pixel_values.to_mask(np.array(label, np.uint8))
    np.testing.assert_array_equal(got, mask)
    assert has_two_levels is two_levels


def test_labels_of_16_bits_and_colour_become_masks():
    wide = np.array([[0, 65535]], np.uint16)
    white = np.repeat(np.array([[[0], [255]]], np.uint8), 3, -1)
    lime = np.array([[[0, 0, 0], [0, 255, 0]]], np.uint8)
    for label in (wide, white, lime):
        mask, has_two_levels = pixel_values.to_mask(label)
        np.testing.assert_array_equal(mask, [[False, True]])
        assert has_two_levels
    mask, has_two_levels = pixel_values.to_mask(np.array([[128 * 257, 128 * 257 + 1]], np.uint16))
    np.testing.assert_array_equal(mask, [[False, True]])
    assert not has_two_levels
