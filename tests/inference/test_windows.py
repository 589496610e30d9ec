"""Blended windows: their weights and places, and independence of the order of parts."""

import pathlib

import cv2
import numpy as np
import pytest

from eal_icnet_jax.imaging import mosaics, pixel_values, stretching
from eal_icnet_jax.inference.scaling import at_scale
from eal_icnet_jax.inference.windows import AveragedWindows, BlendedWindows, WindowAxis


def noise(height=150, width=211):
    return np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)


def blend(image, predict, *arguments, **options):
    mosaic = mosaics.mosaic_from_array(pathlib.Path("x"), image)
    return BlendedWindows(mosaic, predict, *arguments, **options)


@pytest.mark.parametrize(
    ("length", "size", "overlap"),
    [(64, 64, 16), (65, 64, 16), (500, 64, 32), (113, 64, 0), (1000, 100, 25)],
)
def test_windows_cover_an_axis_and_their_weights_sum_to_one(length, size, overlap):
    axis = WindowAxis.covering(length, size, overlap)
    total = np.zeros(length)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert start >= 0 and start + size <= length
        total[start : start + size] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert np.diff(axis.starts).max(initial=0) <= size - overlap
    assert axis.touching(0, length) == list(range(len(axis.starts)))


def test_a_network_that_returns_its_input_gives_the_image():
    image = noise()
    windows = blend(image, lambda x: np.concatenate([x, 1 - x], -1), 1, 2, (64, 48), 16)
    (out,) = windows.strips(slice(0, 211), [slice(0, 150)])
    assert out.shape == (150, 211, 2)
    np.testing.assert_allclose(out[..., 0], image / 255, atol=1e-6)
    np.testing.assert_allclose(out[..., 1], 1 - image / 255, atol=1e-6)


def test_probabilities_do_not_depend_on_order_batch_or_panels():
    """The network's output depends on the whole window."""
    batch_sizes = []

    def predict(x):
        batch_sizes.append(len(x))
        return np.tanh(x * x.mean((1, 2, 3), keepdims=True) * 3)

    windows = blend(noise(), predict, 1, 1, (64, 64), 24, batch=3)
    (expected,) = windows.strips(slice(0, 211), [slice(0, 150)])
    assert set(batch_sizes) == {3}
    strips = [slice(100, 150), slice(0, 30), slice(30, 100)]
    for columns in (slice(0, 90), slice(90, 211)):
        for rows, part in zip(strips, windows.strips(columns, strips), strict=True):
            np.testing.assert_array_equal(part, expected[rows, columns])


def test_each_window_is_predicted_once_and_counted():
    counts = []
    windows = blend(noise(), lambda x: x, 1, 1, (64, 64), 16, batch=2)
    strips = [slice(k, k + 30) for k in range(0, 150, 30)]
    list(windows.strips(slice(0, 211), strips, on_predicted=counts.append))
    assert sum(counts) == windows.window_count(slice(0, 211), strips) == 3 * 5


def test_windows_that_differ_by_a_constant_leave_no_visible_seam():
    levels = iter(np.linspace(0, 1, 4 * 5))
    windows = blend(
        noise(), lambda x: np.full(x.shape, next(levels), np.float32), 1, 1, (64, 64), 24
    )
    (out,) = windows.strips(slice(0, 211), [slice(0, 150)])
    step = max(np.abs(np.diff(out[..., 0], axis=axis)).max() for axis in (0, 1))
    assert step < 2 * 5 / 19 / 24  # five levels between rows of windows, spread over the overlap


@pytest.mark.parametrize("factor", [0.5, 1.7, 2.0])
def test_magnified_windows_give_what_the_whole_magnified_image_gives(factor):
    """A network that sees 9 pixels around. Away from the edges of windows nothing differs."""
    y, x = np.mgrid[:240, :320]
    image = (127 + 90 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)

    def network(images):
        smooth = [cv2.GaussianBlur(part[..., 0], (9, 9), 2) for part in images]
        return (1 / (1 + np.exp(-20 * (np.stack(smooth) - 0.5))))[..., None]

    magnified = at_scale(network, factor, 8)
    (out,) = blend(image, magnified, 1, 1, (80, 80), 20).strips(slice(0, 320), [slice(0, 240)])
    whole = magnified(pixel_values.to_unit_range(image, 1)[None])[0]
    near_edge = np.zeros((240, 320), bool)
    for axis, length in ((0, 240), (1, 320)):
        for start in WindowAxis.covering(length, 80, 20).starts:
            for edge in (start, start + 80):
                pixels = [slice(None), slice(None)]
                pixels[axis] = slice(max(edge - 10, 0), edge + 10)
                near_edge[tuple(pixels)] = True
    assert np.mean(~near_edge) > 0.15
    np.testing.assert_allclose(out[~near_edge], whole[~near_edge], atol=0.03)


def test_a_frame_without_a_photograph_changes_nothing_inside():
    """The network sees the photograph mirrored there, and finds nothing there."""
    image, frame = 1 + noise(144, 204) // 2, ((4, 2), (0, 7))
    seen = []

    def predict(x):
        seen.append(np.mean(x == 0))
        return x

    framed = mosaics.mosaic_from_array(pathlib.Path("x"), np.pad(image, frame))
    framed = stretching.stretched(framed, (0.0, 100.0))
    windows = BlendedWindows(framed, predict, 1, 1, (64, 48), 16)
    (out,) = windows.strips(slice(0, 211), [slice(0, 150)])
    expected = stretching.stretch(image, (0.0, 100.0)) / 255
    np.testing.assert_allclose(out[4:148, :204, 0], expected, atol=1e-6)
    out[4:148, :204] = 0
    assert not out.any() and max(seen) < 0.05
    plain = blend(np.pad(image, frame), predict, 1, 1, (64, 48), 16)
    (unchanged,) = plain.strips(slice(0, 211), [slice(0, 150)])
    np.testing.assert_allclose(unchanged[..., 0], np.pad(image, frame) / 255, atol=1e-6)


def test_sets_of_windows_are_averaged_strip_by_strip():
    """Each set is counted, and has windows of its own size."""
    sets = [
        blend(noise(), lambda x, power=power: x**power, 1, 1, (side, side), 8)
        for side, power in ((64, 1), (48, 2))
    ]
    averaged, columns = AveragedWindows(sets), slice(20, 200)
    strips, predicted = [slice(0, 70), slice(70, 150)], []
    out = np.concatenate(list(averaged.strips(columns, strips, predicted.append)))[..., 0]
    image = noise()[:, columns] / 255
    np.testing.assert_allclose(out, (image + image**2) / 2, atol=1e-6)
    assert sum(predicted) == averaged.window_count(columns, strips)
    assert averaged.window_count(columns, strips) == sum(
        windows.window_count(columns, strips) for windows in sets
    )
