"""Resizing of images and feature maps."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eal_icnet_jax.layers.canvas import image_extent, is_on_canvas


class _Neighbours(NamedTuple):
    """The two old pixels on an axis between which each new pixel lies."""

    lower: jax.Array
    """Index of the lower neighbour, int32 `[new]`; the upper one has the next index."""

    fraction: jax.Array
    """Distance from the lower neighbour in pixels, float32 `[new]`, in [0, 1]."""

    @classmethod
    def from_quotients(cls, numerators, denominator):
        """Return the neighbours of positions `numerators / denominator`, which are not negative.

        Args:
          numerators: integers `[new]`, so that no position is rounded.
          denominator: positive integer.
        """
        if isinstance(numerators, np.ndarray):
            lower = numerators // denominator
        else:
            lower = jax.lax.div(numerators, jnp.full_like(numerators, denominator))
        fraction = (numerators - lower * denominator) / denominator
        return cls(jnp.asarray(lower, jnp.int32), jnp.asarray(fraction, jnp.float32))

    def weights(self, old: int) -> jax.Array:
        """Return the weights of the old pixels in each new one, `[new, old]`."""
        above_lower = (_indices(old) - self.lower[:, None]).astype(jnp.float32)
        return jnp.maximum(1 - abs(above_lower - self.fraction[:, None]), 0)


def _interpolate_axis(x: jax.Array, axis: int, neighbours: _Neighbours) -> jax.Array:
    """Weigh both neighbours of each new pixel: faster than a product with `weights`."""
    shape = tuple(-1 if k == axis else 1 for k in range(x.ndim))
    fraction = neighbours.fraction.astype(x.dtype).reshape(shape)
    upper = jnp.minimum(neighbours.lower + 1, x.shape[axis] - 1)
    below, above = (jnp.take(x, index, axis=axis) for index in (neighbours.lower, upper))
    return below * (1 - fraction) + above * fraction


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _interpolate(x, rows: _Neighbours, columns: _Neighbours, old: tuple[int, int]) -> jax.Array:
    """Interpolate `[B, *old, C]` to `[B, new rows, new columns, C]`."""
    return _interpolate_axis(_interpolate_axis(x, 2, columns), 1, rows)


def _interpolate_forward(x, rows, columns, old):
    return _interpolate(x, rows, columns, old), (rows, columns)


def _interpolate_backward(old, neighbours, gradient):
    # A product with the weights, because the result of scattered sums would depend on their order
    # on an accelerator.
    rows, columns = (
        axis.weights(size).astype(gradient.dtype)
        for axis, size in zip(neighbours, old, strict=True)
    )
    # "highest" keeps an accelerator from rounding the weights to a narrower dtype. In this order
    # of the factors, XLA's CPU backend does not copy the gradient transposed.
    gradient = jnp.einsum("bijc,ih->bhjc", gradient, rows, precision="highest")
    x_gradient = jnp.einsum("bhjc,jw->bhwc", gradient, columns, precision="highest")
    return x_gradient, None, None


_interpolate.defvjp(_interpolate_forward, _interpolate_backward)


def _is_known(*lengths) -> bool:
    """Return whether lengths are numbers, not symbols of numbers or values of a program."""
    return all(isinstance(length, int) for length in lengths)


def _indices(count) -> np.ndarray | jax.Array:
    """Return 0 to `count - 1`."""
    return np.arange(count) if _is_known(count) else jax.lax.iota(jnp.int32, count)


def _corner_aligned_positions(old, new):
    """Return the new pixels' positions among the old ones if the outermost pixels coincide.

    They are integers `[new]` and what divides them, as in `_edge_aligned_positions`.
    """
    return _indices(new) * (old - 1), max(new - 1, 1)


def _edge_aligned_positions(new, old_extent, new_extent):
    """Return the new pixels' positions among the old ones if the outer edges coincide.

    The extents are the lengths of the axes, or those of the image on a canvas (traced).
    """
    xp = np
    if not _is_known(old_extent, new_extent):
        xp, old_extent, new_extent = jnp, jnp.int32(old_extent), jnp.int32(new_extent)
    numerators = (2 * _indices(new) + 1) * old_extent - new_extent
    return xp.clip(numerators, 0, 2 * new_extent * (old_extent - 1)), 2 * new_extent


@jax.named_scope("resize_bilinear")
def resize_bilinear(
    x: jax.Array, size: tuple[int, int], *, align_corners: bool = False
) -> jax.Array:
    """Resize by bilinear interpolation without antialiasing.

    Equals `torch.nn.functional.interpolate(mode="bilinear")`.

    Args:
      x: `[B, H, W, C]`.
      size: new height and width.
      align_corners: True if the centres of the outermost pixels keep their places, False if the
        outer edges do.

    Returns:
      `[B, *size, C]`.
    """
    old = x.shape[1:3]
    if old == tuple(size):
        return x
    if align_corners:
        positions = [_corner_aligned_positions(*axis) for axis in zip(old, size, strict=True)]
    else:
        extents = (image_extent(old), image_extent(size)) if is_on_canvas() else (old, size)
        positions = [_edge_aligned_positions(*axis) for axis in zip(size, *extents, strict=True)]
    rows, columns = (_Neighbours.from_quotients(*axis) for axis in positions)
    if not _is_known(*old, *size):  # a symbol cannot bound what is gathered
        x = jnp.einsum("jw,bhwc->bhjc", columns.weights(old[1]), x)
        return jnp.einsum("ih,bhjc->bijc", rows.weights(old[0]), x)
    return _interpolate(x, rows, columns, old)


def repeat_pixels(x: jax.Array) -> jax.Array:
    """Double height and width by repeating each pixel.

    Equals `torch.nn.functional.interpolate(scale_factor=2, mode="nearest")`.

    Args:
      x: `[B, H, W, C]`.

    Returns:
      `[B, 2 H, 2 W, C]`.
    """
    batch, height, width, features = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, features))
    return x.reshape(batch, 2 * height, 2 * width, features)
