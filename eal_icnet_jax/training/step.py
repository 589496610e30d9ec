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
from eal_icnet_jax.training.state import RunningLoss, TrainState

CHECKED_PARTS = ("loss", "gradients", "parameters")
"""The parts of a step that must stay finite, in the order of `StepReport.finite`."""


class StepReport(NamedTuple):
    """What a step reports about itself.

    finite: `[3]` bool, whether each of `CHECKED_PARTS` holds neither NaN nor infinity.
    stops: bool, whether any process asked to stop.
    """

    finite: jax.Array
    stops: jax.Array


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Return Adam, after clipping of the gradients' global norm if the config asks for it."""
    adam = optax.adam(config.learning_rate)
    if not config.gradient_clip_norm:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip_norm), adam)


def all_finite(tree) -> jax.Array:
    """Return whether no array of a tree holds NaN or infinity."""
    return jnp.stack([jnp.isfinite(array).all() for array in jax.tree.leaves(tree)]).all()


def make_train_step(graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, loss: dict):
    """Compile the training step `(state, batch) -> (state, StepReport)`. The state is donated.

    The batch holds `image` `[B, H, W, C]` and `label` `[B, H, W, L]`, sharded over all devices.
    Batch statistics, loss and gradients are those of the whole batch. It may hold `stops`, one bool
    per device: a process sets it when it was asked to stop, and all processes read the same
    `StepReport.stops` after the step. It is part of the step because programs that processes run
    in different orders would mix up their collectives.

    Args:
      graphdef: structure of the model, from `initial_state`.
      optimizer: from `make_optimizer`.
      loss: keyword arguments of `bce_dice_loss`.
    """
    mesh = data_mesh()

    def step(state: TrainState, batch) -> tuple[TrainState, StepReport]:
        def objective(params):
            model = nnx.merge(graphdef, params, state.others, copy=True)
            value = bce_dice_loss(model(batch["image"]), batch["label"], **loss)
            return value, nnx.state(model, nnx.Not(nnx.Param))

        with batch_sharded_over(mesh.size):
            (value, others), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.stack([all_finite(part) for part in (value, gradients, params)])
        state = TrainState(
            params=params,
            others=others,
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
