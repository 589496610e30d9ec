"""Resizing of feature maps."""

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers.frame import extent, is_framed


def _axis_weights(old: int, new: int, old_extent: jax.Array, new_extent: jax.Array) -> jax.Array:
    """What each of `new` pixels takes from `old` ones, `[new, old]`, where only the first count."""
    centres = (jnp.arange(new) + 0.5) * (old_extent / new_extent) - 0.5
    centres = jnp.clip(centres, 0, old_extent - 1)
    return jnp.maximum(0, 1 - jnp.abs(centres[:, None] - jnp.arange(old)))


def resize_bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear interpolation with pixel centres at half-integers, no antialiasing.

    `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.

    Args:
      x: `[B, H, W, C]`.
      size: new (H, W).

    Returns:
      `[B, *size, C]`.
    """
    shape = (x.shape[0], *size, x.shape[-1])
    if not is_framed():
        return jax.image.resize(x, shape, "bilinear", antialias=False)
    ends = zip(x.shape[1:3], size, extent(x.shape[1:3]), extent(size), strict=True)
    rows, columns = (_axis_weights(*axis).astype(x.dtype) for axis in ends)
    # Highest: a weight must not be rounded to what an accelerator multiplies fastest.
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision="highest")
