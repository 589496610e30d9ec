"""The training state: everything that a step changes, and its form in checkpoints."""

import functools
import operator
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics
from flax import nnx

from eal_icnet_jax.models import named_arrays
from eal_icnet_jax.models.named_arrays import Arrays
from eal_icnet_jax.system.devices import local_copy, replicated


@flax.struct.dataclass
class RunningLoss(clu_metrics.Collection):
    """The mean training loss since the epoch began."""

    loss: clu_metrics.Average.from_output("loss")


class ModelStructure:
    """A model without its arrays.

    Args:
      model: in the mode, training or evaluation, that `model` is to return it in.
    """

    def __init__(self, model: nnx.Module):
        self._graphdef, state = nnx.split(model)
        self._state = jax.eval_shape(lambda: state)

    def state(self, *arrays: Arrays) -> nnx.State:
        """Return the state of the model that has these arrays, by dotted name."""
        return named_arrays.with_arrays(self._state, functools.reduce(operator.or_, arrays))

    def model(self, *arrays: Arrays) -> nnx.Module:
        """Return the model with these arrays, by dotted name."""
        return nnx.merge(self._graphdef, self.state(*arrays), copy=True)


def model_arrays(model: nnx.Module) -> tuple[Arrays, Arrays, Arrays]:
    """Return a model's parameters, batch statistics and random keys by dotted name."""
    parts = nnx.state(model, nnx.Param, nnx.BatchStat, ...)
    params, statistics, random = map(named_arrays.variable_arrays, parts)
    return params, statistics, random


class TrainState(NamedTuple):
    """Everything that a step changes, replicated over the devices.

    Arrays are in dictionaries by dotted name, not in Flax's states, which take Python milliseconds
    to hand to each step and to take back.

    params: the model's parameters.
    statistics: its batch statistics.
    random: its random keys.
    average: exponential moving average of parameters and batch statistics, which is validated and
      saved as the model; None without one.
    optimizer: Adam's moments.
    running: the loss of the epoch so far.
    step: number of batches seen, int32.
    """

    params: Arrays
    statistics: Arrays
    random: Arrays
    average: Arrays | None
    optimizer: optax.OptState
    running: RunningLoss
    step: jax.Array

    def weights(self) -> Arrays:
        """Return the weights of the model that is validated, on this process."""
        state = local_copy(self)
        return state.params | state.statistics if state.average is None else state.average

    def epoch_loss(self) -> tuple[float, int]:
        """Return the mean loss since the epoch began and its number of steps; waits for them."""
        running = local_copy(self.running)
        steps = int(running.loss.count)
        return float(running.compute()["loss"]) if steps else 0.0, steps

    def _rest(self) -> dict:
        """Return what a checkpoint's item `training` holds: all but the weights of its model.

        With an average, these include the weights that the next step starts from.
        """
        tree = self._asdict()
        del tree["average"]
        if self.average is None:
            del tree["params"], tree["statistics"]
        return tree

    def to_arrays(self) -> tuple[Arrays, Arrays]:
        """Return the items `model` and `training` of a checkpoint."""
        return self.weights(), named_arrays.tree_arrays(local_copy(self)._rest())

    def from_arrays(self, weights: Arrays, training: Arrays) -> "TrainState":
        """Return a state with the values of a checkpoint and this state's structure."""
        state = local_copy(self)
        rest = named_arrays.with_tree_arrays(state._rest(), training)
        if state.average is not None:
            return replicated(TrainState(average=weights, **rest))
        params, statistics = (
            {name: weights[name] for name in part} for part in (state.params, state.statistics)
        )
        return replicated(TrainState(params, statistics, average=None, **rest))

    def at_epoch_start(self) -> "TrainState":
        """Return the state with an empty running loss."""
        return self._replace(running=replicated(RunningLoss.empty()))


def _zeros(tree):
    """Return zeros in the shapes of a tree. JAX would compile a program for each shape."""
    return jax.tree.map(lambda array: np.zeros(array.shape, array.dtype), tree)


def initial_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, with_average: bool = False
) -> tuple[ModelStructure, TrainState]:
    """Put a model into training mode and split it into its structure and a fresh state.

    Args:
      model: to train.
      optimizer: from `make_optimizer`, whose state is 0 everywhere at first.
      with_average: whether steps keep a moving average of its weights.
    """
    model.train()
    params, statistics, random = model_arrays(model)
    average = None
    if with_average:  # a copy, because a step takes over the arrays of each part
        average = jax.tree.map(jnp.copy, params | statistics)
    state = TrainState(
        params=params,
        statistics=statistics,
        random=random,
        average=average,
        optimizer=_zeros(jax.eval_shape(optimizer.init, params)),
        running=RunningLoss.empty(),
        step=jnp.zeros((), jnp.int32),
    )
    return ModelStructure(model), replicated(state)
