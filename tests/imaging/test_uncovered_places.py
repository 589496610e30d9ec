"""Places that no photograph covers are found, and the photograph is mirrored into them."""

import pathlib

import numpy as np
import pytest

from eal_icnet_jax.imaging import mosaics
from eal_icnet_jax.imaging.uncovered_places import mirrored_into, uncovered_places


def photograph(height: int, width: int, channels: tuple[int, ...] = ()) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, *channels), np.uint8)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_black_places_are_told_from_shadows(channels):
    image = photograph(300, 280, channels)
    expected = np.zeros((300, 280), bool)
    expected[:7], expected[100:180, 90:170], expected[200:, 272:] = True, True, True
    image[expected] = 0
    image[240:250, 20:60] = 0  # a shadow
    image[60:63, :50] = 0  # a thin line
    mosaic = mosaics.mosaic_from_array(pathlib.Path("a"), image)
    whole = uncovered_places(mosaic, slice(0, 300), slice(0, 280))
    np.testing.assert_array_equal(whole, expected)
    # A pixel's answer does not depend on the part.
    for top in range(0, 300, 50):
        for left in range(0, 280, 70):
            part = slice(top, min(top + 90, 300)), slice(left, min(left + 80, 280))
            np.testing.assert_array_equal(uncovered_places(mosaic, *part), expected[part])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_photograph_is_mirrored_into_a_border(channels):
    image = photograph(60, 50, channels)
    frame = ((8, 0), (0, 5), *((0, 0) for _ in channels))
    padded, places = np.pad(image, frame), np.ones((68, 55), bool)
    places[8:, :50] = False
    out = mirrored_into(padded, places)
    sides = np.pad(image, frame, mode="reflect")
    np.testing.assert_array_equal(out[8:], sides[8:])
    np.testing.assert_array_equal(out[:8, :50], sides[:8, :50])
    assert out.min() > 0  # the corner, too
    assert mirrored_into(padded, np.ones((68, 55), bool)) is padded


def test_wide_places_repeat_the_border():
    """Where the mirrored pixel lies beyond the image, the nearest covered one is taken."""
    image = np.zeros((10, 100), np.uint8)
    image[:, :10] = np.arange(1, 11)
    out = mirrored_into(image, image == 0)
    np.testing.assert_array_equal(out[0, 10:19], np.arange(9, 0, -1))
    assert (out[:, 19:] == 10).all()
