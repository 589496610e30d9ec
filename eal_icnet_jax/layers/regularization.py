"""Dropout of values, channels and images in training."""

from flax import nnx


def dropout(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """Return a layer that drops single values, `torch.nn.Dropout`.

    Args:
      rate: probability in [0, 1) of dropping a value.
      rngs: stream `dropout`, used if the rate is not 0.
    """
    return nnx.Dropout(rate, rngs=rngs if rate else None)


def dropout_channels(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """Return a layer that drops channels of `[B, H, W, C]`, `torch.nn.Dropout2d`.

    Args:
      rate: probability in [0, 1) of dropping a channel of an image.
      rngs: stream `dropout`, used if the rate is not 0.
    """
    return nnx.Dropout(rate, broadcast_dims=(1, 2), rngs=rngs if rate else None)


def dropout_images(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """Return a layer that drops images of `[B, H, W, C]`.

    On a residual branch this is drop connect, also known as stochastic depth.

    Args:
      rate: probability in [0, 1) of dropping an image of the batch.
      rngs: stream `dropout`, used if the rate is not 0.
    """
    return nnx.Dropout(rate, broadcast_dims=(1, 2, 3), rngs=rngs if rate else None)
