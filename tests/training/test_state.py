"""The training state survives its form in checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from eal_icnet_jax.models.named_arrays import tree_arrays
from eal_icnet_jax.training.state import RunningLoss, initial_state, model_arrays
from eal_icnet_jax.training.step import make_optimizer
from eal_icnet_jax.training.trainer import Trainer
from tests import small_config, trainings


class Layer(nnx.Module):
    """A layer with parameters, batch statistics and a random key."""

    def __init__(self, seed: int):
        rngs = nnx.Rngs(seed)
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.linear(x)))


def state_of(seed: int, steps: int, with_average: bool):
    """Return a state in whose every part the seed and the steps show."""
    layer = Layer(seed)
    layer.train()
    for k in range(steps):
        layer(jnp.full((4, 2), float(k)))
    _, state = initial_state(layer, optax.adam(1e-3), with_average)
    if with_average:
        average = jax.tree.map(lambda array: array + 0.5 * seed, state.average)
        state = state._replace(average=average)
    running = RunningLoss.single_from_model_output(loss=jnp.array(0.25 * steps))
    return state._replace(running=running, step=jnp.array(steps, jnp.int32))


@pytest.mark.parametrize("options", [{}, {"gradient_clip_norm": 1.0, "schedule.decay": "cosine"}])
def test_a_fresh_optimizer_is_what_optax_makes_it(options):
    config = small_config.get_config()
    config.update_from_flattened_dict(options)
    optimizer, layer = make_optimizer(config, 10), Layer(0)
    _, state = initial_state(layer, optimizer)
    expected = optimizer.init(state.params)
    assert jax.tree.structure(state.optimizer) == jax.tree.structure(expected)
    for found, array in zip(*map(jax.tree.leaves, (state.optimizer, expected)), strict=True):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("with_average", [False, True])
def test_every_part_of_the_state_is_saved_and_restored(with_average):
    saved = state_of(1, 3, with_average)
    weights, training = saved.to_arrays()
    fresh = state_of(0, 0, with_average)
    assert any("dropout" in name for name in training)
    restored = fresh.from_arrays(weights, training)
    for before, after in zip(saved.to_arrays(), restored.to_arrays(), strict=True):
        trainings.assert_equal(after, before)
    assert restored.epoch_loss() == (0.75, 1)
    assert int(restored.step) == 3
    for read in (lambda s: s.params | s.statistics, lambda s: s.weights()):
        trainings.assert_equal(read(restored), read(saved))


def test_a_structure_gives_the_model_back():
    """With its batch statistics, its random keys and its mode."""
    layer = Layer(1)
    structure, state = initial_state(layer, optax.adam(1e-3))
    image = jnp.arange(8.0).reshape(4, 2)
    again = structure.model(state.params, state.statistics, state.random)
    for _ in range(2):
        np.testing.assert_array_equal(again(image), layer(image))
    trainings.assert_equal(*(tree_arrays(model_arrays(model)) for model in (again, layer)))


def test_training_changes_the_random_keys_of_dropout_and_resuming_restores_them(
    data_dir, workdir_copy, tmp_path
):
    config = small_config.on(data_dir)
    resumed, fresh = (Trainer(config, path) for path in (workdir_copy, tmp_path / "new"))
    (_, after), (_, before) = (trainer.state.to_arrays() for trainer in (resumed, fresh))
    names = [name for name in before if name.startswith("random.")]
    assert names and any(not np.array_equal(before[name], after[name]) for name in names)


def test_the_running_loss_begins_anew_in_each_epoch():
    state = state_of(seed=0, steps=2, with_average=False)
    assert state.epoch_loss() == (pytest.approx(0.5), 1)
    assert state.at_epoch_start().epoch_loss() == (0.0, 0)
