"""Resizing of images and feature maps."""

import jax
import jax.numpy as jnp
import numpy as np

from eal_icnet_jax.layers.frame import extent, is_framed


def _interpolated(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """`[B, H, W, C]` by the weights of each new row and column, `[new, old]`, to `[B, *new, C]`."""
    rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
    # Highest: a weight must not be rounded to what an accelerator multiplies fastest.
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision="highest")


def _framed_weights(old: int, new: int, old_extent: jax.Array, new_extent: jax.Array) -> jax.Array:
    """What each of `new` pixels takes from `old` ones, `[new, old]`, where only the first count."""
    centres = (jnp.arange(new) + 0.5) * (old_extent / new_extent) - 0.5
    centres = jnp.clip(centres, 0, old_extent - 1)
    return jnp.maximum(0, 1 - jnp.abs(centres[:, None] - jnp.arange(old)))


def _corner_weights(old: int, new: int) -> np.ndarray:
    """What each of `new` pixels takes from `old` ones, `[new, old]`, if the outermost coincide."""
    centres = np.arange(new) * ((old - 1) / max(new - 1, 1))
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old))).astype(np.float32)


def resize_bilinear(
    x: jax.Array, size: tuple[int, int], *, align_corners: bool = False
) -> jax.Array:
    """Bilinear interpolation without antialiasing.

    `torch.nn.functional.interpolate(mode="bilinear")`.

    Args:
      x: `[B, H, W, C]`.
      size: new (H, W).
      align_corners: the centres of the outermost pixels stay; else their outer edges do.

    Returns:
      `[B, *size, C]`.
    """
    old = x.shape[1:3]
    if old == tuple(size):
        return x
    if align_corners:
        ends = zip(old, size, strict=True)
        return _interpolated(x, *(jnp.asarray(_corner_weights(*axis)) for axis in ends))
    if is_framed():
        ends = zip(old, size, extent(old), extent(size), strict=True)
        return _interpolated(x, *(_framed_weights(*axis) for axis in ends))
    return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "bilinear", antialias=False)


def repeat_pixels(x: jax.Array) -> jax.Array:
    """Each pixel four times, `torch.nn.functional.interpolate(scale_factor=2, mode="nearest")`.

    `[B, H, W, C]` to `[B, 2 H, 2 W, C]`.
    """
    batch, height, width, features = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, features))
    return x.reshape(batch, 2 * height, 2 * width, features)


def pad_to_multiple(x: jax.Array, multiple: int) -> jax.Array:
    """Repeats the last row and column until both sizes of `[B, H, W, C]` are multiples."""
    below, right = (-size % multiple for size in x.shape[1:3])
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), "edge") if below or right else x
