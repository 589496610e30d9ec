"""Images are magnified so that their wires have the width that a network was trained for."""

import dataclasses
import pathlib

import numpy as np
import pytest

from eal_icnet_jax.imaging.mosaics import mosaic_from_array
from eal_icnet_jax.inference import scaling
from eal_icnet_jax.models.registry import Preprocessing
from eal_icnet_jax.system.errors import UserError

KNOWN = Preprocessing(wire_width=14.0)


def threshold(images: np.ndarray) -> np.ndarray:
    """A network that finds bright wires of any width, and is sure where levels are clear."""
    return np.clip(4 * images[..., :1] - 1.5, 0.001, 0.999)


def wires(width: int, size: int = 1200) -> np.ndarray:
    """Bright wires of a width, with gaps of the same, on a darker ground."""
    stripes = (np.arange(size) // width % 2).astype(bool)
    image = np.where(stripes[:, None], 200, 60) * np.ones((1, size))
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [1200, 500])
@pytest.mark.parametrize("width", [4, 7, 14, 25, 50, 80])
def test_the_width_of_wires_is_found(width, size):
    mosaic = mosaic_from_array(pathlib.Path("a.png"), wires(width, size))
    scale = scaling.find_scale(mosaic, threshold, 1, KNOWN, 32)
    if 1 / scaling.TOLERANCE < 14 / width < scaling.TOLERANCE:
        assert scale.factor == 1
    else:
        power = scaling.SHRINKING if width > 14 else 1
        assert scale.factor == pytest.approx((14 / width) ** power, rel=0.2)
    assert "pixels wide" in scale.note


@pytest.mark.parametrize(("size", "looks"), [(641, 9), (640, 5)])
def test_a_small_image_is_looked_at_in_fewer_places(size, looks):
    mosaic = mosaic_from_array(pathlib.Path("a.png"), wires(14, size))
    sights = scaling._look(mosaic, threshold, 1, 1.0, scaling.SAMPLE, 32)
    assert len(sights) == looks
    corners = {(sight.top, sight.left) for sight in sights}
    assert len(corners) == looks and {(0, 0), (0, 320), (160, 160), (320, 0), (320, 320)} <= corners


@pytest.mark.parametrize(("width", "is_needed"), [(4, True), (25, False), (80, False)])
def test_the_finest_magnification_is_looked_at_only_where_it_may_matter(
    width, is_needed, monkeypatch
):
    mosaic = mosaic_from_array(pathlib.Path("a.png"), wires(width))
    look, scales = scaling._look, []

    def recorded(mosaic, predict, channels, scale, sample, smallest):
        scales.append(scale)
        return look(mosaic, predict, channels, scale, sample, smallest)

    monkeypatch.setattr(scaling, "_look", recorded)
    quick = scaling.find_scale(mosaic, threshold, 1, KNOWN, 32)
    assert (scaling.SCALES[-1] in scales) == is_needed
    monkeypatch.setattr(scaling, "_largest_support", lambda *_: 1.0)
    assert scaling.find_scale(mosaic, threshold, 1, KNOWN, 32) == quick


def test_no_width_is_better_supported_than_the_bound_says():
    rng = np.random.default_rng(0)
    for _ in range(50):
        width, wire_width = rng.uniform(2, 60, 2)
        coarse = scaling._Seen(2.0, width, [])
        bound = scaling._largest_support(coarse, 4.0, wire_width)
        found = [
            scaling._likelihood(octaves, np.log2(width * 8**0.5 / wire_width) - octaves / 2)
            for octaves in np.linspace(-6, 6, 1201)
        ]
        assert max(found) == pytest.approx(bound, rel=1e-4)


def test_an_image_without_wires_keeps_its_size():
    mosaic = mosaic_from_array(pathlib.Path("a.png"), np.full((500, 400), 20, np.uint8))
    scale = scaling.find_scale(mosaic, threshold, 1, KNOWN, 32)
    assert scale.factor == 1 and "no wires were found" in scale.note


@pytest.mark.parametrize("factor", [0.4, 0.5, 1.0, 1.7, 2.0, 4.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_return_in_their_own_size(factor, channels):
    y, x = np.mgrid[:96, :128]
    image = (0.5 + 0.4 * np.sin(x / 15) * np.cos(y / 12))[..., None].astype(np.float32)
    images = np.repeat(np.repeat(image[None], 2, 0), channels, -1)
    sizes = []

    def identity(magnified):
        sizes.append(magnified.shape[1:3])
        return magnified[..., :1]

    out = scaling.at_scale(identity, factor, 32)(images)
    assert sizes == [(round(96 * factor), round(128 * factor))]
    assert out.shape == (2, 96, 128, 1)
    np.testing.assert_allclose(out, images[..., :1], atol=0.02)


def test_small_images_keep_the_size_that_a_network_needs():
    sizes = []

    def record(images):
        sizes.append(images.shape[1:3])
        return images

    scaling.at_scale(record, 0.125, 32)(np.zeros((1, 100, 300, 1), np.float32))
    assert sizes == [(32, 38)]


@pytest.mark.parametrize("factor", [0.77, 3.18, 5.3])
def test_windows_of_every_magnification_have_one_size(factor):
    sizes = []

    def record(images):
        sizes.append(images.shape[1:3])
        return images

    side = round(256 / factor)
    magnify = scaling.at_scale(record, factor, 32, crop_size=256)
    magnify(np.zeros((1, side, 2 * side, 1), np.float32))
    assert sizes == [(256, round(2 * side * factor))]


def test_wires_are_looked_for_in_squares_of_the_crops_size():
    sizes = set()

    def record(images):
        sizes.add(images.shape[1:3])
        return threshold(images)

    mosaic = mosaic_from_array(pathlib.Path("a.png"), wires(25))
    known = dataclasses.replace(KNOWN, crop_size=96)
    scale = scaling.find_scale(mosaic, record, 1, known, 32)
    assert sizes == {(96, 96)} and scale.factor == pytest.approx(14 / 25, rel=0.2)


@pytest.mark.parametrize("scale", [0.0, -1.0, 17.0, 0.01, float("nan"), float("inf"), "2x"])
def test_senseless_factors_are_refused(scale):
    with pytest.raises(UserError, match=r"--scale is .*: name auto, or a factor from 1/16 to 16"):
        scaling.check_scale(scale)
