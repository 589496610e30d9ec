"""Pooling of stride 2."""

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers.canvas import mask_outside
from eal_icnet_jax.layers.depthwise_convolution import depthwise_conv
from eal_icnet_jax.layers.plain_forms import takes_plain_forms


def avg_pool_3x3(x: jax.Array) -> jax.Array:
    """Average 3x3 pixels at stride 2, padded zeros included: `torch.nn.AvgPool2d(3, 2, 1)`.

    Args:
      x: `[B, H, W, C]`.

    Returns:
      `[B, ceil(H / 2), ceil(W / 2), C]`.
    """
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = mask_outside(x)
    if takes_plain_forms():  # a sum over a window is no operation of ONNX
        return depthwise_conv(x, jnp.full((3, 3, 1, x.shape[-1]), 1 / 9, x.dtype), stride=2)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 2, 2, 1), padding) / 9


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Take the maximum of 2x2 pixels at stride 2: `torch.nn.MaxPool2d(2, ceil_mode=True)`.

    At even sizes this is the pooling of the PyTorch originals. At odd sizes they drop the last row
    or column, and most of them then fail to join the result with a stride-2 convolution; here the
    last window holds the remaining pixels. As in PyTorch, the gradient goes to the first of equal
    values.

    Args:
      x: `[B, H, W, C]`.

    Returns:
      `[B, ceil(H / 2), ceil(W / 2), C]`.
    """
    batch, height, width, features = x.shape
    padding = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    x = jnp.pad(mask_outside(x, -jnp.inf), padding, constant_values=-jnp.inf)
    windows = x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, features)

    def larger(a, b):
        return jnp.where(b > a, b, a)

    upper, lower = (larger(windows[:, :, i, :, 0], windows[:, :, i, :, 1]) for i in (0, 1))
    return larger(upper, lower)
