"""Depthwise convolution as a sum of shifted slices."""

import functools

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers.dense_convolution import direct_conv
from eal_icnet_jax.layers.padding import Padding, centred_padding
from eal_icnet_jax.layers.plain_forms import takes_plain_forms


@jax.named_scope("depthwise_conv")
def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    dilation: tuple[int, int] = (1, 1),
    stride: int = 1,
    padding: Padding | None = None,
) -> jax.Array:
    """Convolve every channel with a filter of its own.

    Sums shifted, scaled slices, which XLA's CPU backend does well. Its own grouped convolutions
    take over ten times as long there (benchmarks/layers.py; jax issue 26266 is about GPUs).

    Args:
      x: `[B, H, W, C]`.
      kernel: `[kh, kw, 1, C]`.
      dilation: (rows, columns) of the kernel.
      stride: stride of both axes.
      padding: zeros around the image, by default `centred_padding`.

    Returns:
      `[B, H', W', C]`, equal to `jax.lax.conv_general_dilated` with `feature_group_count=C`.
    """
    padding = centred_padding(kernel.shape[:2], dilation) if padding is None else padding
    if takes_plain_forms():
        return direct_conv(x, kernel, stride, dilation, padding, groups=x.shape[-1])
    padding = tuple(map(tuple, padding))
    return _sum_of_slices(x, kernel, tuple(dilation), stride, padding)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _sum_of_slices(x, kernel, dilation, stride, padding):
    """Convolve. Compiled by itself so that equal layers are traced once."""
    kh, kw = kernel.shape[:2]
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (
        (length - d * (k - 1) - 1) // stride + 1
        for length, d, k in zip(padded.shape[1:3], dilation, (kh, kw), strict=True)
    )
    total = None
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + stride * (height - 1) + 1, stride)
            columns = slice(left, left + stride * (width - 1) + 1, stride)
            term = padded[:, rows, columns] * kernel[i, j, 0]
            total = term if total is None else total + term
    return total
