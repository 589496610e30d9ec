"""The training state: everything that a step changes, and its form in checkpoints."""

from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
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
    optimizer: Adam's moments.
    running: the loss of the epoch so far.
    step: number of batches seen, int32.
    """

    params: nnx.State
    others: nnx.State
    optimizer: optax.OptState
    running: RunningLoss
    step: jax.Array

    def weights(self) -> nnx.State:
        """Return the model's whole state, on this process."""
        state = local_copy(self)
        return nnx.merge_state(state.params, state.others)

    def epoch_loss(self) -> tuple[float, int]:
        """Return the mean loss since the epoch began and its number of steps; waits for them."""
        running = local_copy(self.running)
        steps = int(running.loss.count)
        return float(running.compute()["loss"]) if steps else 0.0, steps

    def _rest(self) -> dict:
        """Return what a checkpoint's item `training` holds: all but the weights."""
        tree = self._asdict()
        del tree["params"]
        tree["others"] = nnx.filter_state(tree["others"], nnx.Not(nnx.BatchStat))
        return tree

    def to_arrays(self) -> tuple[Arrays, Arrays]:
        """Return the items `model` and `training` of a checkpoint."""
        state = local_copy(self)
        weights = named_arrays.weight_arrays(state.params, state.others)
        return weights, named_arrays.tree_arrays(state._rest())

    def from_arrays(self, weights: Arrays, training: Arrays) -> "TrainState":
        """Return a state with the values of a checkpoint and this state's structure."""
        state = local_copy(self)
        rest = named_arrays.with_tree_arrays(state._rest(), training)
        statistics = named_arrays.with_weights(state.others, weights)
        rest["others"] = nnx.merge_state(statistics, rest["others"])
        params = named_arrays.with_weights(state.params, weights)
        return replicated(TrainState(params=params, **rest))

    def at_epoch_start(self) -> "TrainState":
        """Return the state with an empty running loss."""
        return self._replace(running=replicated(RunningLoss.empty()))


def initial_state(
    model: nnx.Module, optimizer: optax.GradientTransformation
) -> tuple[nnx.GraphDef, TrainState]:
    """Put a model into training mode and split it into its structure and a fresh state."""
    model.train()
    graphdef, params, others = nnx.split(model, nnx.Param, ...)
    state = TrainState(
        params=params,
        others=others,
        optimizer=optimizer.init(params),
        running=RunningLoss.empty(),
        step=jnp.zeros((), jnp.int32),
    )
    return graphdef, replicated(state)
