"""Blended windows: weights, places, and that the result is a function of place alone."""

import pathlib

import numpy as np
import pytest

from eal_icnet_jax import mosaics
from eal_icnet_jax.windows import Axis, Blended


def mosaic_of(image):
    return mosaics.of_array(pathlib.Path("x"), image)


def noise(height=150, width=211):
    return np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize(
    ("length", "size", "overlap"),
    [(64, 64, 16), (65, 64, 16), (500, 64, 32), (113, 64, 0), (1000, 100, 25)],
)
def test_windows_cover_an_axis_and_their_weights_sum_to_one(length, size, overlap):
    axis = Axis.of(length, size, overlap)
    total = np.zeros(length)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert start >= 0 and start + size <= length
        total[start : start + size] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert np.diff(axis.starts).max(initial=0) <= size - overlap
    assert axis.over(0, length) == list(range(len(axis.starts)))


def test_each_pixel_comes_from_its_own_place():
    """A network that gives back what it sees gives back the image."""
    image = noise()
    blended = Blended(
        mosaic_of(image), lambda x: np.concatenate([x, 1 - x], -1), 1, 2, (64, 48), 16
    )
    (out,) = blended.strips(slice(0, 211), [slice(0, 150)])
    assert out.shape == (150, 211, 2)
    np.testing.assert_allclose(out[..., 0], image / 255, atol=1e-6)
    np.testing.assert_allclose(out[..., 1], 1 - image / 255, atol=1e-6)


def test_neither_order_nor_batch_nor_panels_make_a_difference():
    """A network whose output depends on the whole window: any parts are those of the whole."""
    predicted = []

    def predict(x):
        predicted.append(len(x))
        return np.tanh(x * x.mean((1, 2, 3), keepdims=True) * 3)

    image = noise()
    blended = Blended(mosaic_of(image), predict, 1, 1, (64, 64), 24, batch=3)
    (whole,) = blended.strips(slice(0, 211), [slice(0, 150)])
    assert set(predicted) == {3}
    strips = [slice(100, 150), slice(0, 30), slice(30, 100)]
    for columns in (slice(0, 90), slice(90, 211)):
        for rows, part in zip(strips, blended.strips(columns, strips), strict=True):
            np.testing.assert_array_equal(part, whole[rows, columns])


def test_windows_are_predicted_once_a_run_and_counted():
    seen = []
    blended = Blended(mosaic_of(noise()), lambda x: x, 1, 1, (64, 64), 16, batch=2)
    strips = [slice(k, k + 30) for k in range(0, 150, 30)]
    with blended.told(seen.append):
        list(blended.strips(slice(0, 211), strips))
    assert sum(seen) == blended.count(slice(0, 211), strips) == 3 * 5


def test_no_seam_shows():
    """Windows that disagree by a constant are blended into a ramp, not a step."""
    levels = iter(np.linspace(0, 1, 4 * 5))
    blended = Blended(
        mosaic_of(noise()), lambda x: np.full(x.shape, next(levels), np.float32), 1, 1, (64, 64), 24
    )
    (out,) = blended.strips(slice(0, 211), [slice(0, 150)])
    jump = max(np.abs(np.diff(out[..., 0], axis=axis)).max() for axis in (0, 1))
    assert jump < 2 * 5 / 19 / 24  # from row to row of windows five levels, over the overlap
