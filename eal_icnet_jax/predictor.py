"""A model made ready to predict."""

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from eal_icnet_jax.layers import fold_batch_norms
from eal_icnet_jax.losses import bce_dice_loss


def data_mesh() -> Mesh:
    """All devices along one axis, `data`, over which batches are shared."""
    return Mesh(np.array(jax.devices()), ("data",))


class Predictor:
    """A model's compiled forward pass over all devices, batch normalisation folded.

    Args:
      model: in evaluation mode.
      loss: weights and epsilon of `losses.bce_dice_loss`, for `with_losses`.
    """

    def __init__(self, model: nnx.Module, **loss: float):
        self._model = nnx.graphdef(model)
        graphdef, state = nnx.split(fold_batch_norms(model))
        mesh = data_mesh()
        self._replicated = replicated = NamedSharding(mesh, PartitionSpec())
        self._state = jax.device_put(state, replicated)
        shared = NamedSharding(mesh, PartitionSpec("data"))

        def probabilities(state, image):
            return jax.nn.sigmoid(nnx.merge(graphdef, state)(image))

        def with_losses(state, image, label):
            logits = nnx.merge(graphdef, state)(image)
            each = jax.vmap(lambda x, y: bce_dice_loss(x[None], y[None], **loss))
            return jax.nn.sigmoid(logits), each(logits, label)

        compiled = {"out_shardings": shared}
        self._probabilities = jax.jit(probabilities, in_shardings=(replicated, shared), **compiled)
        self._with_losses = jax.jit(
            with_losses, in_shardings=(replicated, shared, shared), **compiled
        )

    def load(self, state: nnx.State):
        """Takes other weights and statistics, a state of the model it was made with."""
        state = nnx.state(fold_batch_norms(nnx.merge(self._model, state)))
        self._state = jax.device_put(state, self._replicated)

    @staticmethod
    def _full(batch: np.ndarray) -> np.ndarray:
        """Repeats the last image until the devices can share the batch equally."""
        missing = -len(batch) % jax.device_count()
        return np.concatenate([batch, np.repeat(batch[-1:], missing, 0)]) if missing else batch

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """`[B, H, W, C]` float32 in [0, 1] to probabilities `[B, H, W, classes]` float32."""
        return np.asarray(self._probabilities(self._state, self._full(image)))[: len(image)]

    def with_losses(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities, and each image's own loss `[B]`, as the reference's batches of one have.

        `label` is `[B, H, W, classes]`, 0 or 1.
        """
        out = self._with_losses(self._state, self._full(image), self._full(label))
        return tuple(np.asarray(part)[: len(image)] for part in out)
