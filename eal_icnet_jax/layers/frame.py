"""Images in the upper left of a larger frame, so that many sizes share one compiled program.

Inside `frame`, the layers compute what they compute on the image alone: what lies beside it counts
as padding, and in no sum, maximum or attention. The image's height and width are values there, not
part of the program.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp

_frame = contextvars.ContextVar("frame", default=None)

LARGEST = 1024
"""Pixels on the longer side up to which compiling costs more than computing a frame's rest."""


def frame_for(size: tuple[int, int]) -> tuple[int, int] | None:
    """The frame that sizes near this one share: each side 2^n or 3 2^n from 64 up.

    None beyond `LARGEST`: a larger image takes longer in a frame than a program of its own does to
    compile.
    """
    if max(size) > LARGEST:
        return None
    sides = sorted(side << n for side in (64, 96) for n in range(5) if side << n <= LARGEST)
    return tuple(next(side for side in sides if side >= length) for length in size)


@contextlib.contextmanager
def frame(size: tuple[int, int], image_size: jax.Array) -> Iterator[None]:
    """Layers called inside take their feature maps for those of an image in a frame.

    Args:
      size: the frame's height and width, multiples of the network's strides.
      image_size: the image's height and width, int32 `[2]`, may be traced.
    """
    token = _frame.set((size, image_size))
    try:
        yield
    finally:
        _frame.reset(token)


def is_framed() -> bool:
    """Whether a `frame` is in force."""
    return _frame.get() is not None


def extent(size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """The rows and columns of a feature map, `size` in all, that are the image's."""
    whole, image = _frame.get()
    if any(a % b for a, b in zip(whole, size, strict=True)):
        raise ValueError(f"a frame of {whole} cannot hold a feature map of {size}")
    return tuple(-(-image[k] // (whole[k] // size[k])) for k in range(2))


def inside(size: tuple[int, int]) -> jax.Array:
    """Where a feature map is the image's, bool `[H, W]`."""
    rows, columns = extent(size)
    return (jnp.arange(size[0]) < rows)[:, None] & (jnp.arange(size[1]) < columns)


def bounded(x: jax.Array, beside: float = 0.0) -> jax.Array:
    """`x`, `[B, H, W, C]`, with `beside` in place of what lies beside the image, if framed."""
    if not is_framed():
        return x
    return jnp.where(inside(x.shape[1:3])[..., None], x, jnp.asarray(beside, x.dtype))
