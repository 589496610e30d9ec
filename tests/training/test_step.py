"""The training step: the same on more devices, checked for NaN, and clipped on request."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.models.named_arrays import tree_arrays
from eal_icnet_jax.training import step
from eal_icnet_jax.training.state import initial_state
from tests import small_config, small_model


def step_on_all_devices() -> dict[str, np.ndarray]:
    """Return weights and loss after a step on four images, and what the compiled step exchanges."""
    model = models.create_model(
        "eal_icnet", rngs=nnx.Rngs(0), block_1_dilations=(2,), block_2_dilations=(4,)
    )
    optimizer = optax.sgd(0.1)
    structure, state = initial_state(model, optimizer)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.random((4, 64, 64, 1), np.float32),
        "label": rng.random((4, 64, 64, 1)) > 0.5,
        "valid": rng.random((4, 64, 64, 1)) > 0.1,
    }
    train_step = step.TrainStep(structure, optimizer, {})
    arrays = state.params, state.statistics, state.random
    program = train_step.gradients.lower(*arrays, batch).compile().as_text()
    loops = [line for line in program.splitlines() if "/while/body" in line]
    update = train_step.update.lower(state, jnp.zeros(()), state.params).compile().as_text()
    state, _ = train_step(state, batch)
    return {
        "devices": jax.device_count(),
        "lines in loops": len(loops),
        "exchanges in loops": sum("all-reduce(" in line for line in loops),
        "exchanges in the update": update.count("all-reduce("),
        "loss": state.running.compute()["loss"],
        **state.weights(),
    }


def test_two_devices_compute_the_step_of_one(tmp_path):
    """Loss, batch statistics and weights are equal; neither loops nor the update exchange anything.

    Several processes on CPU would mix what a loop exchanges with other sums over the batch.
    """
    out = tmp_path / "two.npz"
    code = (
        "import sys, numpy; from tests.training import test_step; "
        "numpy.savez(sys.argv[1], **test_step.step_on_all_devices())"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-c", code, str(out)], check=True, env={**os.environ, "XLA_FLAGS": flags}
    )
    one, two = step_on_all_devices(), dict(np.load(out))
    assert (one.pop("devices"), two.pop("devices")) == (1, 2)
    assert all(result.pop("lines in loops") for result in (one, two))
    for place in ("loops", "the update"):
        assert [result.pop(f"exchanges in {place}") for result in (one, two)] == [0, 0]
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_nan_and_infinity_are_found_in_any_array():
    """Compiled too; those of one size are checked together."""
    sizes = {"a": 3, "b": 4, "c": 3, "d": (2, 2), "e": ()}
    arrays = {name: -jnp.ones(size) for name, size in sizes.items()}
    for check in (step.all_finite, jax.jit(step.all_finite)):
        assert bool(check(arrays))
        assert bool(check({name: jnp.full_like(x, 3e38) for name, x in arrays.items()}))
        for bad in (jnp.nan, jnp.inf, -jnp.inf):
            for name, array in arrays.items():
                assert not bool(check({**arrays, name: array.ravel().at[-1].set(bad)}))
        assert not bool(check({**arrays, "a": jnp.full(3, jnp.inf), "c": jnp.full(3, -jnp.inf)}))


@pytest.mark.parametrize(("norm", "moment"), [(0.0, 5.0), (1.0, 0.05)])
def test_gradients_are_clipped_only_if_the_config_says_so(norm, moment):
    """Adam's first moment is a tenth of the gradient, whose norm is 100 before clipping."""
    config = small_config.get_config()
    config.gradient_clip_norm = norm
    optimizer = step.make_optimizer(config, 100)
    params = {"a": jnp.zeros(4)}
    _, state = optimizer.update({"a": jnp.full(4, 50.0)}, optimizer.init(params), params)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert largest == pytest.approx(moment)


def test_the_learning_rate_rises_and_falls():
    config = small_config.get_config()
    config.learning_rate = 0.01
    assert step.learning_rate_schedule(config, 100) == 0.01
    config.schedule.warmup_steps = 10
    rising = step.learning_rate_schedule(config, 100)
    np.testing.assert_allclose([rising(k) for k in (0, 5, 10, 99)], [0, 0.005, 0.01, 0.01])
    config.schedule.decay = "cosine"
    cosine = step.learning_rate_schedule(config, 100)
    expected = 0.005 * (1 + np.cos(np.pi * (55 - 10) / 90))
    np.testing.assert_allclose([cosine(k) for k in (0, 10, 55, 100)], [0, 0.01, expected, 0], 1e-5)


def test_the_average_follows_the_weights():
    average, current = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    early = step.moving_average(average, current, jnp.int32(0), 0.99)
    late = step.moving_average(average, current, jnp.int32(10**6), 0.99)
    np.testing.assert_allclose(early["w"], 0.9)
    np.testing.assert_allclose(late["w"], 0.01, rtol=1e-4)


def test_a_step_keeps_the_types_of_the_state():
    """Also those of averaged counts of batches; otherwise the next step would compile again."""
    model = small_model.create()
    optimizer = step.make_optimizer(small_config.get_config(), 10)
    structure, state = initial_state(model, optimizer, with_average=True)
    train_step = step.TrainStep(structure, optimizer, {}, 0.9)
    state = jax.eval_shape(lambda: state)
    assert any(not jnp.issubdtype(array.dtype, jnp.floating) for array in state.average.values())
    after, _ = jax.eval_shape(train_step.update, state, jnp.zeros(()), state.params)
    before, after = (
        {k: (v.shape, v.dtype) for k, v in tree_arrays(s).items()} for s in (state, after)
    )
    assert after == before
