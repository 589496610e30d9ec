"""The mean over flips and quarter turns."""

import numpy as np
import pytest

from eal_icnet_jax.inference.views import over_views


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
