"""Pooling."""

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers.frame import bounded


def avg_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 mean, stride 2, padding 1, padded zeros counted: `torch.nn.AvgPool2d(3, 2, 1)`.

    `[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), C]`.
    """
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = bounded(x)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 2, 2, 1), pads) / 9


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """2x2 maximum, stride 2: `torch.nn.MaxPool2d(2, ceil_mode=True)`.

    `[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), C]`. At even sizes that is the references'
    pooling; at odd ones they drop the last row or column, and most then cannot join the result to
    a stride-2 convolution, so here the last window holds what is left. As in PyTorch, the gradient
    goes to the first of equal values.
    """
    batch, height, width, features = x.shape
    pads = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    x = jnp.pad(bounded(x, -jnp.inf), pads, constant_values=-jnp.inf)
    windows = x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, features)

    def larger(a, b):
        return jnp.where(b > a, b, a)

    upper, lower = (larger(windows[:, :, i, :, 0], windows[:, :, i, :, 1]) for i in (0, 1))
    return larger(upper, lower)
