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
