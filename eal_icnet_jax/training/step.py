"""The compiled training step."""

import concurrent.futures
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from eal_icnet_jax.layers import batch_sharded_over
from eal_icnet_jax.models.losses import bce_dice_loss
from eal_icnet_jax.models.named_arrays import Arrays
from eal_icnet_jax.system.devices import data_mesh
from eal_icnet_jax.training.state import ModelStructure, RunningLoss, TrainState, model_arrays

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


def moving_average(average: Arrays, current: Arrays, step: jax.Array, decay: float) -> Arrays:
    """Return the exponential moving average of arrays after one more step, of integers the current.

    In the first steps, the decay is `(1 + step) / (10 + step)`, as in TensorFlow, so that the
    initial weights are soon forgotten.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))

    def averaged(old, new):
        if not jnp.issubdtype(new.dtype, jnp.floating):  # the batches that a batch norm has seen
            return new
        return old + (1 - decay) * (new - old)

    return jax.tree.map(averaged, average, current)


class TrainStep:
    """The training step `(state, batch) -> (state, StepReport)`. The state is donated.

    It is two programs, because two compile at the same time: on two cores in three quarters of the
    time that one takes. `gradients` holds the passes through the network and all that devices
    exchange, `update` what is done to each weight.

    The batch holds `image` `[B, H, W, C]`, `label` `[B, H, W, L]` and `valid` `[B, H, W, 1]`, which
    says which pixels count, sharded over all devices.
    Batch statistics, loss and gradients are those of the whole batch. It may hold `stops`, one bool
    per device: a process sets it when it was asked to stop, and all processes read the same
    `StepReport.stops` after the step. It is part of the step because programs that processes run
    in different orders would mix up their collectives.

    Args:
      structure: of the model, from `initial_state`.
      optimizer: from `make_optimizer`.
      loss: keyword arguments of `bce_dice_loss`.
      average_decay: of the state's average, where it has one.

    Attributes:
      gradients: jitted `(state's params, statistics and random, batch) -> (loss, gradients,
        statistics, random, stops)`.
      update: jitted `(state, loss, gradients) -> (state, finite)`, where the state has the new
        statistics and random keys already.
    """

    def __init__(
        self,
        structure: ModelStructure,
        optimizer: optax.GradientTransformation,
        loss: dict,
        average_decay: float = 0.0,
    ):
        self._structure, self._optimizer, self._loss = structure, optimizer, loss
        self._average_decay = average_decay
        self._mesh = data_mesh()
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        sharded = NamedSharding(self._mesh, PartitionSpec("data"))
        self.gradients = jax.jit(
            self._gradients_of,
            in_shardings=(*(everywhere,) * 3, sharded),
            out_shardings=everywhere,
        )
        self.update = jax.jit(
            self._updated, donate_argnums=0, in_shardings=everywhere, out_shardings=everywhere
        )
        self._compiled_update: concurrent.futures.Future[jax.stages.Compiled] | None = None

    def __call__(self, state: TrainState, batch) -> tuple[TrainState, StepReport]:
        if self._compiled_update is None:
            thread = concurrent.futures.ThreadPoolExecutor(1)
            shapes = jax.eval_shape(lambda: state)
            self._compiled_update = thread.submit(self._compile_update, shapes)
            thread.shutdown(wait=False)  # it ends with the compilation
        loss, gradients, statistics, random, stops = self.gradients(
            state.params, state.statistics, state.random, batch
        )
        state = state._replace(statistics=statistics, random=random)
        state, finite = self._compiled_update.result()(state, loss, gradients)
        return state, StepReport(finite, stops)

    def _compile_update(self, state: TrainState) -> jax.stages.Compiled:
        """Compile `update` for a state of shapes, whose weights have gradients of their shapes."""
        loss = jax.ShapeDtypeStruct((), jnp.float32)
        return self.update.lower(state, loss, state.params).compile()

    def _gradients_of(self, params: Arrays, statistics: Arrays, random: Arrays, batch):
        def objective(params):
            model = self._structure.model(params, statistics, random)
            logits = model(batch["image"])
            value = bce_dice_loss(logits, batch["label"], valid=batch["valid"], **self._loss)
            _, *changed = model_arrays(model)
            return value, changed

        with batch_sharded_over(self._mesh.size):
            (value, changed), gradients = jax.value_and_grad(objective, has_aux=True)(params)
        return value, gradients, *changed, batch.get("stops", jnp.zeros(1, bool)).any()

    def _updated(self, state: TrainState, loss: jax.Array, gradients: Arrays):
        updates, moments = self._optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            current = params | state.statistics
            average = moving_average(average, current, state.step, self._average_decay)
        finite = jnp.stack([all_finite(part) for part in (loss, gradients, params)])
        state = state._replace(
            params=params,
            average=average,
            optimizer=moments,
            running=state.running.merge(RunningLoss.single_from_model_output(loss=loss)),
            step=state.step + 1,
        )
        return state, finite
