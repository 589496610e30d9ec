"""The training state: everything that a step changes, and its form in checkpoints."""

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


class TrainState(NamedTuple):
    """Everything that a step changes, replicated over the devices.

    params: the model's parameters.
    others: its batch statistics and random keys.
    average: exponential moving average of parameters and batch statistics, which is validated and
      saved as the model; None without one.
    optimizer: Adam's moments.
    running: the loss of the epoch so far.
    step: number of batches seen, int32.
    """

    params: nnx.State
    others: nnx.State
    average: nnx.State | None
    optimizer: optax.OptState
    running: RunningLoss
    step: jax.Array

    def weights(self) -> nnx.State:
        """Return the whole state of the model that is validated, on this process."""
        state = local_copy(self)
        return nnx.merge_state(state.params, state.others, state.average or nnx.State({}))

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
            del tree["params"]
            tree["others"] = nnx.filter_state(tree["others"], nnx.Not(nnx.BatchStat))
        return tree

    def to_arrays(self) -> tuple[Arrays, Arrays]:
        """Return the items `model` and `training` of a checkpoint."""
        state = local_copy(self)
        model = (state.params, state.others) if state.average is None else (state.average,)
        weights = named_arrays.weight_arrays(*model)
        return weights, named_arrays.tree_arrays(state._rest())

    def from_arrays(self, weights: Arrays, training: Arrays) -> "TrainState":
        """Return a state with the values of a checkpoint and this state's structure."""
        state = local_copy(self)
        rest = named_arrays.with_tree_arrays(state._rest(), training)
        if state.average is not None:
            average = named_arrays.with_weights(state.average, weights)
            return replicated(TrainState(average=average, **rest))
        statistics = named_arrays.with_weights(state.others, weights)
        rest["others"] = nnx.merge_state(statistics, rest["others"])
        params = named_arrays.with_weights(state.params, weights)
        return replicated(TrainState(params=params, average=None, **rest))

    def at_epoch_start(self) -> "TrainState":
        """Return the state with an empty running loss."""
        return self._replace(running=replicated(RunningLoss.empty()))


def averaged_part(params: nnx.State, others: nnx.State) -> nnx.State:
    """Return what a moving average covers: parameters and batch statistics."""
    return nnx.merge_state(params, nnx.filter_state(others, nnx.BatchStat))


def _zeros(tree):
    """Return zeros in the shapes of a tree. JAX would compile a program for each shape."""
    return jax.tree.map(lambda array: np.zeros(array.shape, array.dtype), tree)


def initial_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, with_average: bool = False
) -> tuple[nnx.GraphDef, TrainState]:
    """Put a model into training mode and split it into its structure and a fresh state.

    Args:
      model: to train.
      optimizer: from `make_optimizer`, whose state is 0 everywhere at first.
      with_average: whether steps keep a moving average of its weights.
    """
    model.train()
    graphdef, params, others = nnx.split(model, nnx.Param, ...)
    average = None
    if with_average:  # a copy, because a step takes over the arrays of each part
        average = jax.tree.map(jnp.copy, averaged_part(params, others))
    state = TrainState(
        params=params,
        others=others,
        average=average,
        optimizer=_zeros(jax.eval_shape(optimizer.init, params)),
        running=RunningLoss.empty(),
        step=jnp.zeros((), jnp.int32),
    )
    return graphdef, replicated(state)
