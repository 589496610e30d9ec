"""Programs shared by images of several sizes: same results, and as few programs as promised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax import models, predictor
from eal_icnet_jax.layers import frame, frame_for
from eal_icnet_jax.predictor import Predictor, Program

RNG = np.random.default_rng(0)
SMALL = {"block_1_dilations": (2,), "block_2_dilations": (4, 8), "heads": 4}


@pytest.fixture(scope="module")
def model():
    """Weights and statistics such that no branch is idle (position attention starts at 0)."""
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(0), **SMALL)
    for _, leaf in nnx.to_flat_state(nnx.state(model)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            leaf[...] += 0.1 * RNG.random(leaf.shape, np.float32)
    model.position_attention.gamma[...] = jnp.ones(1)
    model.eval()
    return model


def images(*shape):
    return RNG.random((*shape, 1), np.float32)


def test_what_lies_beside_the_image_changes_nothing(model):
    """Even, odd and full sizes in one program, beside values that would be seen in any sum."""
    graphdef, state = nnx.split(model)

    @jax.jit
    def framed(state, image, size):
        with frame(image.shape[1:3], size):
            return nnx.merge(graphdef, state)(image)

    for height, width in ((57, 83), (33, 34), (64, 96)):
        image = images(2, height, width)
        want = model(image)
        larger = np.full((2, 64, 96, 1), 7, np.float32)
        larger[:, :height, :width] = image
        out = framed(state, larger, np.array((height, width), np.int32))[:, :height, :width]
        np.testing.assert_allclose(out, want, atol=2e-6 * float(jnp.ptp(want)))
    assert framed._cache_size() == 1


def test_a_frame_must_hold_every_feature_map(model):
    with frame((68, 96), jnp.array((50, 50))), pytest.raises(ValueError, match="cannot hold"):
        model(images(1, 68, 96))


def test_frames():
    assert frame_for((64, 65)) == (64, 96)
    assert frame_for((500, 1024)) == (512, 1024)
    assert frame_for((500, 1025)) is None


def test_sizes_share_a_program(model):
    """The first size's frame serves smaller ones; the images given stay as they are."""
    ours = Predictor(model)
    for shape in ((1, 90, 128), (1, 96, 97), (1, 40, 33), (2, 64, 64)):
        image = images(*shape)
        before = image.copy()
        want = jax.nn.sigmoid(model(image))
        np.testing.assert_allclose(ours.probabilities(image), want, atol=1e-5)
        np.testing.assert_array_equal(image, before)
    assert ours._framed._cache_size() == 1
    assert ours._probabilities._cache_size() == 1  # the batch of two, whose size is a frame's


def test_what_comes_often_gets_its_own_program(model, monkeypatch):
    """As soon as the waste would pass a program's cost: first by the frame, then by the size."""
    monkeypatch.setattr(predictor, "PROGRAM_COST", 30_000)
    ours = Predictor(model)
    shapes = [(1, 128, 128)] + [(1, 60, 60)] * 80
    used = [ours._program(shape, frames=True) for shape in shapes]
    assert used[0] == Program(1, 128, 128, framed=False)
    # Images of a frame's own size do without masks, so that program holds no others.
    assert used[1] == Program(1, 64, 64, framed=True)
    changed = used.index(Program(1, 60, 60, framed=False))
    assert changed == 1 + 30_000 // (64 * 64 - 60 * 60)
    assert set(used[changed:]) == {Program(1, 60, 60, framed=False)}
    larger = Predictor(model)
    used = [larger._program(shape, frames=True) for shape in [(1, 120, 120)] + [(1, 60, 60)] * 4]
    assert used == [Program(1, 128, 128, framed=True)] * 3 + [Program(1, 60, 60, framed=False)] * 2


def test_a_last_smaller_batch_is_filled_up(model):
    ours = Predictor(model, bce_weight=1.0, dice_weight=1.0, epsilon=1e-5)
    batch = images(3, 48, 40)
    labels = (images(3, 48, 40) > 0.5).astype(np.float32)
    whole = ours.with_losses(batch, labels)
    part = ours.with_losses(batch[:2], labels[:2])
    for got, want in zip(part, whole, strict=True):
        np.testing.assert_array_equal(got, want[:2])
    assert ours._with_losses._cache_size() == 1
