"""What all networks have in common."""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import pad_to_multiple, resize_bilinear


class Network(nnx.Module):
    """Images to logits of their size.

    A network defines `forward`, and `dtype`, the dtype of its computation; parameters and
    statistics are float32.
    """

    smallest = 32
    """Height and width of an image at least."""

    multiple = 1
    """Of what `forward` needs the height and width to be multiples; the last row and column are
    repeated up to that, and what lies there is cut off the logits."""

    align_corners = False
    """How logits of another size than the image's are resized (`layers.resize_bilinear`)."""

    frames = False
    """Whether all layers know `layers.frame`, so that images of many sizes share programs."""

    def forward(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in_channels]` in the network's dtype to logits of any height and width."""
        raise NotImplementedError

    def __call__(self, image: jax.Array) -> jax.Array:
        """Image `[B, H, W, in_channels]` in [0, 1] to logits `[B, H, W, classes]`, float32.

        Raises:
          ValueError: the image is too small.
        """
        height, width = image.shape[1:3]
        if min(height, width) < self.smallest:
            raise ValueError(
                f"{type(self).__name__} needs images from {self.smallest}x{self.smallest} up, "
                f"but got {height}x{width}"
            )
        x = pad_to_multiple(image.astype(self.dtype), self.multiple)
        logits = self.forward(x)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        logits = resize_bilinear(logits, x.shape[1:3], align_corners=self.align_corners)
        return logits[:, :height, :width]
