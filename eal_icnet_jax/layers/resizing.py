"""Resizing of images and feature maps."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eal_icnet_jax.layers.frame import extent, is_framed


class _Between(NamedTuple):
    """Where the new pixels of an axis lie among the old ones: beyond which one, and how far."""

    below: jax.Array
    fraction: jax.Array

    @classmethod
    def of(cls, positions, old: int):
        """From positions `[new]` in [0, old - 1]; NumPy's stay exact."""
        xp = np if isinstance(positions, np.ndarray) else jnp
        below = xp.clip(xp.floor(positions), 0, max(old - 2, 0)).astype(xp.int32)
        return cls(jnp.asarray(below), jnp.asarray(positions - below, jnp.float32))

    def weights(self, old: int) -> jax.Array:
        """What each new pixel takes from the old ones, `[new, old]`."""
        own = (1 - self.fraction)[:, None] * jax.nn.one_hot(self.below, old)
        return own + self.fraction[:, None] * jax.nn.one_hot(self.below + 1, old)


def _along(x: jax.Array, axis: int, between: _Between) -> jax.Array:
    """Both neighbours of each new pixel, weighted: faster than a product with the weights."""
    shape = tuple(-1 if k == axis else 1 for k in range(x.ndim))
    fraction = between.fraction.astype(x.dtype).reshape(shape)
    above = jnp.minimum(between.below + 1, x.shape[axis] - 1)
    own, following = (jnp.take(x, index, axis=axis) for index in (between.below, above))
    return own * (1 - fraction) + following * fraction


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _interpolated(x, rows: _Between, columns: _Between, old: tuple[int, int]) -> jax.Array:
    """`[B, *old, C]` to `[B, new rows, new columns, C]`."""
    return _along(_along(x, 2, columns), 1, rows)


def _interpolated_forward(x, rows, columns, old):
    return _interpolated(x, rows, columns, old), (rows, columns)


def _interpolated_backward(old, between, gradient):
    """A product with the weights: scattered sums would depend on their order on an accelerator."""
    rows, columns = (
        axis.weights(size).astype(gradient.dtype) for axis, size in zip(between, old, strict=True)
    )
    # Highest: a weight must not be rounded to what an accelerator multiplies fastest.
    to_x = jnp.einsum("ih,jw,bijc->bhwc", rows, columns, gradient, precision="highest")
    return to_x, None, None


_interpolated.defvjp(_interpolated_forward, _interpolated_backward)


def _corner_positions(old: int, new: int) -> np.ndarray:
    """Where new pixels lie among the old ones if the outermost of both coincide."""
    return np.arange(new) * ((old - 1) / max(new - 1, 1))


def _centre_positions(new: int, old_extent, new_extent):
    """The same if the outer edges of both coincide; extents are the axes' own, or the framed."""
    xp = np if isinstance(old_extent, int) else jnp
    return xp.clip((xp.arange(new) + 0.5) * (old_extent / new_extent) - 0.5, 0, old_extent - 1)


@jax.named_scope("resize_bilinear")
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
        positions = [_corner_positions(*axis) for axis in zip(old, size, strict=True)]
    else:
        extents = (extent(old), extent(size)) if is_framed() else (old, size)
        positions = [_centre_positions(*axis) for axis in zip(size, *extents, strict=True)]
    between = [_Between.of(*axis) for axis in zip(positions, old, strict=True)]
    return _interpolated(x, *between, old)


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
