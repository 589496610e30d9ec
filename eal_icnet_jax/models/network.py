"""The base class of all networks."""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import pad_to_multiple, resize_bilinear
from eal_icnet_jax.models.registry import SMALLEST_IMAGE, ModelSpec


class Network(nnx.Module):
    """Maps images to logits of the same height and width.

    A subclass defines `forward` and the attribute `dtype`, the dtype of its computation. Its
    parameters and statistics are float32.
    """

    spec: ModelSpec
    """Name and options; `create_model` sets it."""

    dtype: jnp.dtype
    """Dtype of the computation."""

    smallest = SMALLEST_IMAGE
    """Smallest height and width of an image, in pixels."""

    multiple = 1
    """Number that divides height and width in `forward`. Other images are extended by repeating
    their last row and column, and the logits are cropped."""

    alignment = 8
    """Number that should divide height and width, or the logits do not lie exactly over the image:
    as in the references, they are resized from feature maps whose sizes are rounded up."""

    align_corners = False
    """How logits are resized to the image's size; see `layers.resize_bilinear`."""

    supports_canvas = False
    """Whether all layers support `layers.on_canvas`, so that images of many sizes share a compiled
    program."""

    def forward(self, x: jax.Array) -> jax.Array:
        """Compute logits of any height and width.

        Args:
          x: images `[B, H, W, in_channels]` in the network's dtype.

        Returns:
          `[B, H', W', classes]`.
        """
        raise NotImplementedError

    def __call__(self, image: jax.Array) -> jax.Array:
        """Compute the logits of every pixel.

        Args:
          image: `[B, H, W, in_channels]`, values in [0, 1].

        Returns:
          Logits `[B, H, W, classes]`, float32 at least.

        Raises:
          ValueError: the image is too small.
        """
        height, width = image.shape[1:3]
        if height < self.smallest or width < self.smallest:
            raise ValueError(
                f"{type(self).__name__} needs images from {self.smallest}x{self.smallest} up, "
                f"but got {height}x{width}"
            )
        x = pad_to_multiple(image.astype(self.dtype), self.multiple)
        logits = self.forward(x)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        logits = resize_bilinear(logits, x.shape[1:3], align_corners=self.align_corners)
        return logits[:, :height, :width]
