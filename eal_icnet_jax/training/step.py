"""The compiled training step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from eal_icnet_jax.layers import batch_sharded_over
from eal_icnet_jax.models.losses import bce_dice_loss
from eal_icnet_jax.system.devices import data_mesh
from eal_icnet_jax.training.state import RunningLoss, TrainState, averaged_part

CHECKED_PARTS = ("loss", "gradients", "parameters")
"""The parts of a step that must stay finite, in the order of `StepReport.finite`."""


class StepReport(NamedTuple):
    """What a step reports about itself.

    finite: `[3]` bool, whether each of `CHECKED_PARTS` holds neither NaN nor infinity.
    stops: bool, whether any process asked to stop.
    """

    finite: jax.Array
    stops: jax.Array


def learning_rate_schedule(config: ConfigDict, steps: int) -> optax.Schedule | float:
    """Return the learning rate by step, or the number if it is constant.

    Args:
      config: of the training.
      steps: of the whole training.
    """
    schedule, rate = config.schedule, config.learning_rate
    if schedule.decay == "constant" and not schedule.warmup_steps:
        return rate
    warmup = min(schedule.warmup_steps, steps - 1)
    if schedule.decay == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps)
    return optax.linear_schedule(0.0, rate, warmup)


def make_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Return Adam, after clipping of the gradients' global norm if the config asks for it.

    Args:
      config: of the training.
      steps: of the whole training.
    """
    adam = optax.adam(learning_rate_schedule(config, steps))
    if not config.gradient_clip_norm:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip_norm), adam)


def all_finite(tree) -> jax.Array:
    """Return whether no array of a tree holds NaN or infinity.

    Arrays of one size are checked together: 0 times a number is 0, and NaN for what is no number.
    A check of each array alone takes a quarter to a half of the time that a step's compilation
    takes.
    """
    zeros: dict[int, jax.Array] = {}
    for array in jax.tree.leaves(jax.lax.optimization_barrier(tree)):
        zeros[array.size] = zeros.get(array.size, 0) + 0 * array.ravel()
    return jnp.stack([(zero == 0).all() for zero in zeros.values()]).all()


def moving_average(
    average: nnx.State, current: nnx.State, step: jax.Array, decay: float
) -> nnx.State:
    """Return the exponential moving average of states after one more step.

    In the first steps, the decay is `(1 + step) / (10 + step)`, as in TensorFlow, so that the
    initial weights are soon forgotten.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: old + (1 - decay) * (new - old), average, current)


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    loss: dict,
    average_decay: float = 0.0,
):
    """Compile the training step `(state, batch) -> (state, StepReport)`. The state is donated.

    The batch holds `image` `[B, H, W, C]`, `label` `[B, H, W, L]` and `valid` `[B, H, W, 1]`, which
    says which pixels count, sharded over all devices.
    Batch statistics, loss and gradients are those of the whole batch. It may hold `stops`, one bool
    per device: a process sets it when it was asked to stop, and all processes read the same
    `StepReport.stops` after the step. It is part of the step because programs that processes run
    in different orders would mix up their collectives.

    Args:
      graphdef: structure of the model, from `initial_state`.
      optimizer: from `make_optimizer`.
      loss: keyword arguments of `bce_dice_loss`.
      average_decay: of the state's average, where it has one.
    """
    mesh = data_mesh()

    def step(state: TrainState, batch) -> tuple[TrainState, StepReport]:
        def objective(params):
            model = nnx.merge(graphdef, params, state.others, copy=True)
            logits = model(batch["image"])
            value = bce_dice_loss(logits, batch["label"], valid=batch["valid"], **loss)
            return value, nnx.state(model, nnx.Not(nnx.Param))

        with batch_sharded_over(mesh.size):
            (value, others), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.stack([all_finite(part) for part in (value, gradients, params)])
        average = state.average
        if average is not None:
            current = averaged_part(params, others)
            average = moving_average(average, current, state.step, average_decay)
        state = TrainState(
            params=params,
            others=others,
            average=average,
            optimizer=moments,
            running=state.running.merge(RunningLoss.single_from_model_output(loss=value)),
            step=state.step + 1,
        )
        return state, StepReport(finite, batch.get("stops", jnp.zeros(1, bool)).any())

    everywhere = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    return jax.jit(
        step, donate_argnums=0, in_shardings=(everywhere, sharded), out_shardings=everywhere
    )
