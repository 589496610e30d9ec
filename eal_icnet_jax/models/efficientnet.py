"""EfficientNet-b0 as an encoder.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
Wiring and PyTorch names follow https://github.com/lukemelas/EfficientNet-PyTorch as adapted by
segmentation_models_pytorch. The convolution of the classification head is never used; it is kept
so that no weight of a checkpoint is lost.
"""

import jax
from flax import nnx

from eal_icnet_jax.layers import Conv, ConvBN, dropout_images
from eal_icnet_jax.layers.padding import Padding

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Stages: number of blocks, kernel size, stride of the first block, expansion, channels."""

STEM, HEAD = 32, 1280
"""Channels of the stem and of the head."""

WIDTHS = (32, 24, 40, 112, 320)
"""Channels of the features that the encoder returns, at H/2 to H/32."""

OUTPUT_BLOCKS = (2, 4, 8, 15)
"""Indices of the blocks whose outputs are those features, after the stem's at H/2."""

DROP_CONNECT = 0.2
"""Default rate at which the last residual branch is dropped in training."""

NORM_OPTIONS = {"epsilon": 1e-3, "momentum": 0.01}


def tensorflow_same_padding(size: int, stride: int) -> Padding | None:
    """Return TensorFlow's `SAME` padding for images whose sides are multiples of the stride.

    At stride 2 there are more zeros after the image than before it.

    Args:
      size: rows and columns of the kernel.
      stride: 1 or 2.

    Returns:
      The padding, or None for the centred padding of stride 1.
    """
    return None if stride == 1 else (((size - 2) // 2, (size - 1) // 2),) * 2


class MBConv(nnx.Module):
    """Inverted bottleneck with squeeze and excitation.

    The input is added if it has the output's shape.

    Args:
      in_features: input channels.
      out_features: output channels.
      size: rows and columns of the depthwise kernel.
      stride: stride of the depthwise convolution.
      expansion: factor by which the channels grow inside the block.
      drop_rate: rate at which the residual branch of an image is dropped in training.
      dtype: dtype of the computation.
      rngs: stream `params`, and stream `dropout` if that rate is not 0.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        size: int,
        stride: int,
        expansion: int,
        drop_rate: float,
        *,
        dtype,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        normal = {"activation": jax.nn.silu, **NORM_OPTIONS, **options}
        wide, squeezed = in_features * expansion, in_features // 4
        self.expand = ConvBN(in_features, wide, (1, 1), **normal) if expansion > 1 else None
        self.depthwise = ConvBN(
            wide,
            wide,
            (size, size),
            stride=stride,
            padding=tensorflow_same_padding(size, stride),
            depthwise=True,
            **normal,
        )
        self.squeeze = Conv(wide, squeezed, (1, 1), use_bias=True, **options)
        self.excite = Conv(squeezed, wide, (1, 1), use_bias=True, **options)
        self.project = ConvBN(wide, out_features, (1, 1), **{**normal, "activation": None})
        self.is_residual = stride == 1 and in_features == out_features
        self.drop = dropout_images(drop_rate if self.is_residual else 0, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in]` to `[B, H / stride, W / stride, out]`."""
        y = self.depthwise(x if self.expand is None else self.expand(x))
        gate = self.excite(jax.nn.silu(self.squeeze(y.mean((1, 2), keepdims=True))))
        y = self.project(y * jax.nn.sigmoid(gate))
        return self.drop(y) + x if self.is_residual else y


class EfficientNetB0(nnx.Module):
    """EfficientNet-b0 without its classifier.

    Args:
      in_channels: channels of the image.
      drop_connect: rate at which the last residual branch is dropped in training; the rates of the
        earlier ones grow linearly towards it.
      dtype: dtype of the computation; parameters and statistics are float32.
      rngs: stream `params`, and stream `dropout` if that rate is not 0.
    """

    def __init__(self, in_channels: int, drop_connect: float, *, dtype, rngs: nnx.Rngs):
        options = {"dtype": dtype, "rngs": rngs}
        normal = {"activation": jax.nn.silu, **NORM_OPTIONS, **options}
        padding = tensorflow_same_padding(3, 2)
        self.stem = ConvBN(in_channels, STEM, stride=2, padding=padding, **normal)
        count = sum(stage[0] for stage in STAGES)
        features = STEM
        blocks = []
        for repeats, size, stride, expansion, width in STAGES:
            for k in range(repeats):
                rate = drop_connect * len(blocks) / count
                step = stride if k == 0 else 1
                blocks.append(MBConv(features, width, size, step, expansion, rate, **options))
                features = width
        self.blocks = nnx.List(blocks)
        self.head = ConvBN(features, HEAD, (1, 1), **normal)

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Compute features at five resolutions.

        Args:
          x: `[B, H, W, in_channels]`, H and W multiples of 32.

        Returns:
          Features at H/2, H/4, ..., H/32 with the channels `WIDTHS`.
        """
        x = self.stem(x)
        out = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in OUTPUT_BLOCKS:
                out.append(x)
        return out


TORCH_NAMES = (
    (r"^encoder\.stem\.conv\.", "encoder._conv_stem."),
    (r"^encoder\.stem\.bn\.", "encoder._bn0."),
    (r"^encoder\.head\.conv\.", "encoder._conv_head."),
    (r"^encoder\.head\.bn\.", "encoder._bn1."),
    (r"^encoder\.blocks\.", "encoder._blocks."),
    (r"\.expand\.conv\.", "._expand_conv."),
    (r"\.expand\.bn\.", "._bn0."),
    (r"\.depthwise\.conv\.", "._depthwise_conv."),
    (r"\.depthwise\.bn\.", "._bn1."),
    (r"\.squeeze\.", "._se_reduce."),
    (r"\.excite\.", "._se_expand."),
    (r"\.project\.conv\.", "._project_conv."),
    (r"\.project\.bn\.", "._bn2."),
)

ENCODER = "encoder."
"""Prefix under which weights of EfficientNet-PyTorch belong among the PyTorch names."""

STEM_KEY = "encoder._conv_stem.weight"
"""PyTorch name of the first convolution's kernel."""
