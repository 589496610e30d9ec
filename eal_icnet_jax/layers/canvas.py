"""An image in the upper-left corner of a larger canvas, so that many sizes share one program.

Inside `on_canvas`, the layers compute what they would compute on the image by itself: pixels
outside the image act as zero padding and take no part in sums, maxima and attention. The image's
height and width are then values that the program reads, not constants of the program.
"""

import contextlib
import contextvars

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers.context import value_inside

_canvas = contextvars.ContextVar("canvas", default=None)


def on_canvas(
    canvas_size: tuple[int, int], image_size: jax.Array
) -> contextlib.AbstractContextManager[None]:
    """Treat the feature maps of all layers called inside as those of an image on a canvas.

    Args:
      canvas_size: height and width of the canvas, multiples of the network's total stride.
      image_size: height and width of the image, int32 `[2]`; may be a traced value.
    """
    return value_inside(_canvas, (canvas_size, image_size))


def is_on_canvas() -> bool:
    """Return whether the code runs inside `on_canvas`."""
    return _canvas.get() is not None


def image_extent(size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Return how many rows and columns of a feature map belong to the image.

    Args:
      size: height and width of the feature map.

    Returns:
      Two int32 scalars.

    Raises:
      ValueError: the canvas is not a multiple of the feature map.
    """
    canvas, image = _canvas.get()
    if any(a % b for a, b in zip(canvas, size, strict=True)):
        raise ValueError(f"a canvas of {canvas} cannot hold a feature map of {size}")
    return tuple(-(-image[axis] // (canvas[axis] // size[axis])) for axis in range(2))


def image_mask(size: tuple[int, int]) -> jax.Array:
    """Return the mask of a feature map's pixels that belong to the image, bool `[H, W]`."""
    rows, columns = image_extent(size)
    return (jnp.arange(size[0]) < rows)[:, None] & (jnp.arange(size[1]) < columns)


def mask_outside(x: jax.Array, fill: float = 0.0) -> jax.Array:
    """Replace the pixels outside the image by `fill`; without a canvas return `x` unchanged.

    Args:
      x: feature map `[B, H, W, C]`.
      fill: new value of those pixels.

    Returns:
      `[B, H, W, C]`.
    """
    if not is_on_canvas():
        return x
    return jnp.where(image_mask(x.shape[1:3])[..., None], x, jnp.asarray(fill, x.dtype))
