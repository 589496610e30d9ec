"""Resizing of feature maps."""

import jax


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
    return jax.image.resize(x, shape, "bilinear", antialias=False)
