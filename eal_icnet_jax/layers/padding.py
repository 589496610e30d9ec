"""Padding of images and feature maps."""

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Numbers of zeros around an image: ((above, below), (left, right))."""


def centred_padding(kernel_size: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Padding:
    """Return the padding with which an odd kernel of stride 1 keeps the image's size.

    Args:
      kernel_size: (rows, columns), odd.
      dilation: (rows, columns).
    """
    return tuple((d * (k // 2),) * 2 for d, k in zip(dilation, kernel_size, strict=True))


def pad_to_multiple(x: jax.Array, multiple: int) -> jax.Array:
    """Repeat the last row and column until height and width are multiples of a number.

    Args:
      x: `[B, H, W, C]`.
      multiple: positive integer.

    Returns:
      `[B, H', W', C]`, where H' and W' are H and W rounded up.
    """
    below, right = (-size % multiple for size in x.shape[1:3])
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), "edge") if below or right else x
