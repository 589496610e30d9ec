"""The mean over flips and quarter turns."""

import numpy as np
import pytest

from eal_icnet_jax.inference.views import over_views, uncertainty


@pytest.mark.parametrize("shape", [(2, 32, 48, 1), (1, 40, 40, 3)])
def test_each_view_is_turned_back(shape):
    images = np.random.default_rng(0).random(shape, np.float32)
    views = []

    def identity(view):
        views.append(view)
        return view

    np.testing.assert_allclose(over_views(identity)(images), images, atol=1e-6)
    assert len({view.tobytes() for view in views}) == 8
    assert {view.shape[1:3] for view in views} == {shape[1:3], shape[2:0:-1]}


def test_a_prediction_that_leans_one_way_is_evened_out():
    def leaning(images):
        return np.roll(images, 1, 2)

    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 4, 4] = 1
    out = over_views(leaning)(image)[0, ..., 0]
    np.testing.assert_allclose(out, out.T)
    np.testing.assert_allclose(out, out[::-1, ::-1])
    assert out[4, 5] == out[3, 4] == pytest.approx(0.25)


def test_the_spread_is_twice_the_deviation_over_the_views():
    def first_pixel(images):
        out = np.zeros((*images.shape[:3], 1), np.float32)
        out[:, 0, 0] = 1
        return out

    out = over_views(first_pixel, with_spread=True)(np.zeros((1, 8, 8, 1), np.float32))[0]
    assert out.shape == (8, 8, 2)
    # Each corner is the first pixel of two of the eight views.
    expected = 2 * np.std([1] * 2 + [0] * 6)
    for corner in (out[0, 0], out[0, -1], out[-1, 0], out[-1, -1]):
        np.testing.assert_allclose(corner, (0.25, expected), rtol=1e-6)
    assert not out[1:-1].any()


def test_uncertainty_is_the_margin_or_the_spread_if_that_is_larger():
    p = np.array([0.0, 0.5, 0.9, 0.9])
    np.testing.assert_allclose(uncertainty(p, None), [0, 1, 0.2, 0.2])
    np.testing.assert_allclose(uncertainty(p, np.array([0, 0, 0.5, 0.1])), [0, 1, 0.5, 0.2])
