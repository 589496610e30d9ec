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
    image = np.random.default_rng(0).normal(100, 10, (200, 190, *channels)).astype(np.uint8)
    framed = np.zeros((260, 250, *channels), np.uint8)
    framed[40:240, 6:196] = image
    out = stretching.stretch(framed, (0.5, 99.5))
    np.testing.assert_array_equal(out[40:240, 6:196], stretching.stretch(image, (0.5, 99.5)))
    assert not out[:40].any()


def test_parts_of_a_mosaic_without_a_photograph_do_not_count():
    image = np.random.default_rng(0).normal(100, 10, (400, 200)).astype(np.uint8)
    whole = np.vstack([image, np.zeros((9000, 200), np.uint8)])
    mosaic = mosaics.mosaic_from_array(pathlib.Path("a.png"), whole)
    part = stretching.stretched(mosaic, (0.5, 99.5))[0:400, 0:200]
    np.testing.assert_array_equal(part, stretching.stretch(image, (0.5, 99.5)))
