"""What is left out at random in training."""

from flax import nnx


def dropout(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """`torch.nn.Dropout`; stream `dropout` where the rate is not 0."""
    return nnx.Dropout(rate, rngs=rngs if rate else None)


def dropout_channels(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """Whole channels of an image, `torch.nn.Dropout2d`."""
    return nnx.Dropout(rate, broadcast_dims=(1, 2), rngs=rngs if rate else None)


def dropout_images(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """Whole images of a batch: drop connect, or stochastic depth, of a residual branch."""
    return nnx.Dropout(rate, broadcast_dims=(1, 2, 3), rngs=rngs if rate else None)
