"""The percentile stretch: decided once per image, the same in parts and at once."""

import pathlib

import numpy as np
import pytest

from eal_icnet_jax.imaging import mosaics, stretching


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_percentiles_become_black_and_white(dtype, channels):
    rng = np.random.default_rng(0)
    maximum = np.iinfo(dtype).max
    image = rng.integers(0.4 * maximum, 0.5 * maximum, (300, 200, *channels)).astype(dtype)
    out = stretching.stretch(image, (1, 99))
    assert out.dtype == dtype and out.shape == image.shape
    for channel in np.moveaxis(out.reshape(-1, *channels, 1), 1, 0):
        assert np.mean(channel == 0) == pytest.approx(0.01, abs=0.04)
        assert np.mean(channel == maximum) == pytest.approx(0.01, abs=0.04)
    order = np.argsort(image.reshape(-1, *channels, 1)[:, 0].ravel(), kind="stable")
    assert (np.diff(out.reshape(-1, *channels, 1)[:, 0].ravel()[order].astype(int)) >= 0).all()
    np.testing.assert_array_equal(stretching.stretch(out, (0, 100)), out)


def test_a_mosaic_is_stretched_as_the_whole_image():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 10, (257, 190, 3)).astype(np.uint8)
    mosaic = mosaics.mosaic_from_array(pathlib.Path("a.png"), image)
    stretched = stretching.stretched(mosaic, (0.5, 99.5))
    expected = stretching.stretch(image, (0.5, 99.5))
    np.testing.assert_array_equal(stretched[30:200, 5:77], expected[30:200, 5:77])
    assert stretching.stretched(mosaic, None) is mosaic


def test_an_image_of_one_level_keeps_it():
    image = np.full((50, 50), 77, np.uint8)
    image[0, 0] = 200
    np.testing.assert_array_equal(stretching.stretch(image, (1, 99))[1:], image[1:])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_places_without_a_photograph_do_not_count(channels):
    """Beyond the tiles of a mosaic the image is black; its levels are those of the tiles."""
    image = np.random.default_rng(0).normal(100, 10, (400, 390, *channels)).astype(np.uint8)
    framed = np.zeros((412, 400, *channels), np.uint8)
    framed[12:, 6:396] = image
    expected = stretching.stretch(image, (0.5, 99.5))
    np.testing.assert_array_equal(stretching.stretch(framed, (0.5, 99.5))[12:, 6:396], expected)
    mosaic = mosaics.mosaic_from_array(pathlib.Path("a.png"), framed)
    part = stretching.stretched(mosaic, (0.5, 99.5))[12:412, 6:396]
    np.testing.assert_array_equal(part, expected)


def test_a_black_ground_counts():
    """Metal on a ground that is black everywhere keeps its levels above that of the ground."""
    image = np.zeros((300, 300), np.uint8)
    image[100:200] = np.random.default_rng(0).normal(60, 8, (100, 300)).clip(20, 100)
    out = stretching.stretch(image, (0.5, 99.5))
    assert out[100:200].min() > 40 and not out[:100].any()
