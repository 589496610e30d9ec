"""Compiled programs that images of several sizes share: equal results, and few programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax.inference.predictor import Predictor, Program, canvas_size_for
from eal_icnet_jax.layers import on_canvas
from eal_icnet_jax.system.errors import UserError
from tests import small_model

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    return small_model.create()


def images(*shape):
    return RNG.random((*shape, 1), np.float32)


@nnx.jit
def logits_of(model, image):
    """Compute the model's logits in a program for exactly this shape."""
    return model(image)


def test_pixels_of_a_canvas_outside_the_image_do_not_matter(model):
    """Even, odd and full sizes in one program, beside values that would be seen in any sum."""
    graphdef, state = nnx.split(model)

    @jax.jit
    def predict(state, canvas, size):
        with on_canvas(canvas.shape[1:3], size):
            return nnx.merge(graphdef, state)(canvas)

    for height, width in ((57, 83), (33, 34), (64, 96)):
        image = images(2, height, width)
        expected = logits_of(model, image)
        canvas = np.full((2, 64, 96, 1), 7, np.float32)
        canvas[:, :height, :width] = image
        out = predict(state, canvas, np.array((height, width), np.int32))[:, :height, :width]
        np.testing.assert_allclose(out, expected, atol=2e-6 * float(jnp.ptp(expected)))
    assert predict._cache_size() == 1


def test_a_canvas_must_be_a_multiple_of_every_feature_map(model):
    with on_canvas((68, 96), jnp.array((50, 50))), pytest.raises(ValueError, match="cannot hold"):
        model(images(1, 68, 96))


def test_images_that_fit_lie_on_a_canvas_that_is_named(model):
    """Whatever was predicted before, and whether or not programs are shared."""
    predictor = Predictor(model)
    for height, width in ((64, 64), (40, 56), (64, 32)):
        image = images(2, height, width)
        found = predictor.probabilities(image, share_programs=False, canvas=(64, 64))
        expected = jax.nn.sigmoid(logits_of(model, image))
        np.testing.assert_allclose(found, expected, atol=2e-6)
    assert {program[1:] for program in predictor._programs[True]} == {(64, 64, True)}
    assert not predictor._programs[False]
    image = images(1, 72, 64)
    found = predictor.probabilities(image, share_programs=False, canvas=(64, 64))
    np.testing.assert_allclose(found, jax.nn.sigmoid(logits_of(model, image)), atol=2e-6)
    assert {program[1:] for program in predictor._programs[False]} == {(72, 64, False)}


def test_canvas_sizes():
    assert canvas_size_for((64, 65)) == (64, 96)
    assert canvas_size_for((500, 1024)) == (512, 1024)
    assert canvas_size_for((500, 1025)) is None


def extended(images):
    """Repeat the last row and column until height and width are multiples of 8."""
    margins = [(0, -length % 8) for length in images.shape[1:3]]
    return np.pad(images, ((0, 0), *margins, (0, 0)), "edge")


@pytest.mark.parametrize("shape", [(1, 57, 90), (1, 64, 71), (1, 58, 64)])
def test_probabilities_lie_exactly_over_an_image_of_any_size(model, shape):
    """They do not shift or stretch with the size, with and without losses."""
    predictor, image = Predictor(model), images(*shape)
    expected = predictor.probabilities(extended(image))[:, : shape[1], : shape[2]]
    np.testing.assert_allclose(predictor.probabilities(image), expected, atol=1e-6)
    np.testing.assert_allclose(predictor.with_losses(image, image > 0.5)[0], expected, atol=1e-6)
    exact = jax.nn.sigmoid(logits_of(model, image))
    assert np.abs(exact - expected).max() > 1e-4  # the network alone stretches them


def test_images_of_several_sizes_share_a_program(model):
    """Smaller images use the canvas of the first size, and the caller's arrays stay as they are."""
    predictor = Predictor(model)
    for shape in ((1, 90, 120), (1, 96, 97), (1, 40, 33), (2, 64, 64)):
        image = images(*shape)
        before = image.copy()
        expected = jax.nn.sigmoid(logits_of(model, extended(image)))
        expected = expected[:, : shape[1], : shape[2]]
        assert np.ptp(expected) > 1e-3
        np.testing.assert_allclose(predictor.probabilities(image), expected, atol=1e-5)
        np.testing.assert_array_equal(image, before)
    forward_pass = predictor._forward_pass
    assert forward_pass._canvas_probabilities._cache_size() == 1
    assert forward_pass._probabilities._cache_size() == 1  # that of a canvas: the batch of two


def test_a_frequent_size_gets_its_own_program(model, monkeypatch):
    """As soon as the waste exceeds a program's cost: first for the canvas, then for the size."""
    monkeypatch.setattr("eal_icnet_jax.inference.predictor.PROGRAM_COST", 30_000)
    predictor = Predictor(model)
    shapes = [(1, 128, 128)] + [(1, 60, 60)] * 80
    chosen = [predictor._choose_program(shape, use_canvas=True) for shape in shapes]
    assert chosen[0] == Program(1, 128, 128, on_canvas=False)
    # The program of an image that fills its canvas has no masks, so it cannot predict others.
    assert chosen[1] == Program(1, 64, 64, on_canvas=True)
    changed = chosen.index(Program(1, 60, 60, on_canvas=False))
    assert changed == 1 + 30_000 // (64 * 64 - 60 * 60)
    assert set(chosen[changed:]) == {Program(1, 60, 60, on_canvas=False)}
    predictor = Predictor(model)
    shapes = [(1, 120, 120)] + [(1, 60, 60)] * 4
    chosen = [predictor._choose_program(shape, use_canvas=True) for shape in shapes]
    large, small = Program(1, 128, 128, on_canvas=True), Program(1, 60, 60, on_canvas=False)
    assert chosen == [large] * 3 + [small] * 2


def test_a_smaller_last_batch_is_padded(model):
    predictor = Predictor(model, bce_weight=1.0, dice_weight=1.0, epsilon=1e-5)
    batch = images(3, 48, 40)
    labels = (images(3, 48, 40) > 0.5).astype(np.float32)
    expected = predictor.with_losses(batch, labels)
    part = predictor.with_losses(batch[:2], labels[:2])
    for got, want in zip(part, expected, strict=True):
        np.testing.assert_array_equal(got, want[:2])
    assert predictor._forward_pass._with_losses._cache_size() == 1


def test_an_image_that_is_too_small_is_refused_with_its_name_and_size(model):
    predictor = Predictor(model)
    predictor.check_size("a.png", (32, 40, 3))
    with pytest.raises(UserError, match=r"a\.png is 40x20 .*: the model needs at least 32x32"):
        predictor.check_size("a.png", (40, 20))
