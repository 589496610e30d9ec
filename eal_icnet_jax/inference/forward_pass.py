"""The forward pass of a network over the devices of this process, batch norms folded."""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from eal_icnet_jax.layers import fold_batch_norms, on_canvas
from eal_icnet_jax.models.losses import bce_dice_loss
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.system.devices import data_mesh


class ForwardPass:
    """A network's forward pass, compiled for each shape that it is given.

    Args:
      model: in evaluation mode.
      loss: weights and epsilon of `bce_dice_loss`, for `with_losses`.

    Attributes:
      state: the weights that it computes with, on the devices.
    """

    def __init__(self, model: Network, **loss: float | Sequence[float]):
        self._model = nnx.graphdef(model)
        self._graphdef, state = nnx.split(fold_batch_norms(model))
        self._loss = loss
        mesh = data_mesh(jax.local_devices())
        self._replicated = replicated = NamedSharding(mesh, PartitionSpec())
        self.state = jax.device_put(state, replicated)
        sharded = NamedSharding(mesh, PartitionSpec("data"))

        # The output takes over the image's buffer if their shapes agree.
        arguments = dict(model.spec.options)
        donate = (1,) if arguments["in_channels"] == arguments["classes"] else ()
        compiled = functools.partial(jax.jit, out_shardings=sharded, donate_argnums=donate)
        self._probabilities = compiled(self.probabilities_of, in_shardings=(replicated, sharded))
        self._canvas_probabilities = compiled(
            self.canvas_probabilities_of, in_shardings=(replicated, sharded, replicated)
        )
        self._with_losses = jax.jit(
            self._losses_of, in_shardings=(replicated, *(sharded,) * 3), out_shardings=sharded
        )

    def probabilities_of(self, state: nnx.State, images: jax.Array) -> jax.Array:
        """Compute `probabilities` with other weights of the form of `state`."""
        return jax.nn.sigmoid(nnx.merge(self._graphdef, state)(images))

    def canvas_probabilities_of(
        self, state: nnx.State, canvases: jax.Array, image_size: jax.Array
    ) -> jax.Array:
        """Compute `canvas_probabilities` with other weights of the form of `state`."""
        with on_canvas(canvases.shape[1:3], image_size):
            return self.probabilities_of(state, canvases)

    def _losses_of(self, state, images, labels, valid):
        def image_loss(logits, label, valid):
            return bce_dice_loss(logits[None], label[None], valid=valid[None], **self._loss)

        logits = nnx.merge(self._graphdef, state)(images)
        return jax.nn.sigmoid(logits), jax.vmap(image_loss)(logits, labels, valid)

    def load(self, state: nnx.State):
        """Replace the weights and statistics by a state of the model that was passed in."""
        state = nnx.state(fold_batch_norms(nnx.merge(self._model, state)))
        self.state = jax.device_put(state, self._replicated)

    def probabilities(self, images: np.ndarray) -> jax.Array:
        """Predict images `[B, H, W, C]` float32 in [0, 1]: `[B, H, W, classes]` float32."""
        return self._probabilities(self.state, images)

    def canvas_probabilities(self, canvases: np.ndarray, image_size: np.ndarray) -> jax.Array:
        """Predict images in the upper-left corners of canvases.

        Args:
          canvases: `[B, H, W, C]` float32 in [0, 1].
          image_size: height and width of the images, `[2]` int32.

        Returns:
          `[B, H, W, classes]` float32; what lies beyond the images means nothing.
        """
        return self._canvas_probabilities(self.state, canvases, image_size)

    def with_losses(
        self, images: np.ndarray, labels: np.ndarray, valid: np.ndarray
    ) -> tuple[jax.Array, jax.Array]:
        """Predict images, and compute the loss of each.

        Args:
          images: `[B, H, W, C]` float32 in [0, 1].
          labels: `[B, H, W, classes]`, 0 or 1.
          valid: `[B, H, W, 1]` bool, the pixels that count in the loss.

        Returns:
          Probabilities `[B, H, W, classes]` and losses `[B]`, float32.
        """
        return self._with_losses(self.state, images, labels, valid)
