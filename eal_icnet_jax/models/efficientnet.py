"""EfficientNet-b0 as an encoder.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
Wiring and PyTorch names follow https://github.com/lukemelas/EfficientNet-PyTorch as adapted by
segmentation_models_pytorch. The classifying head's convolution is never used; it is kept, for
checkpoints to pass through whole.
"""

import jax
from flax import nnx

from eal_icnet_jax.layers import Conv, ConvBN, dropout_images
from eal_icnet_jax.layers.convolution import Pads

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel size, stride of the first, expansion and channels of each stage."""

STEM, HEAD = 32, 1280
WIDTHS = (32, 24, 40, 112, 320)
"""Channels of what the encoder returns, at H/2 to H/32."""
TAKEN = (2, 4, 8, 15)
"""The blocks whose outputs those are, after the stem's."""

DROP_CONNECT = 0.2
NORMAL = {"epsilon": 1e-3, "momentum": 0.01}


def same_pads(size: int, stride: int) -> Pads | None:
    """TensorFlow's `SAME` for multiples of the stride: more zeros after the image."""
    return None if stride == 1 else (((size - 2) // 2, (size - 1) // 2),) * 2


class MBConv(nnx.Module):
    """Inverted bottleneck with squeeze and excitation, added to the input where they are alike."""

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
        normal = {"activation": jax.nn.silu, **NORMAL, **options}
        wide, squeezed = in_features * expansion, in_features // 4
        self.expand = ConvBN(in_features, wide, (1, 1), **normal) if expansion > 1 else None
        self.depthwise = ConvBN(
            wide,
            wide,
            (size, size),
            stride=stride,
            pads=same_pads(size, stride),
            depthwise=True,
            **normal,
        )
        self.squeeze = Conv(wide, squeezed, (1, 1), use_bias=True, **options)
        self.excite = Conv(squeezed, wide, (1, 1), use_bias=True, **options)
        self.project = ConvBN(wide, out_features, (1, 1), **{**normal, "activation": None})
        self.is_residual = stride == 1 and in_features == out_features
        self.drop = dropout_images(drop_rate if self.is_residual else 0, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` to `[B, H / stride, W / stride, out]`."""
        y = self.depthwise(x if self.expand is None else self.expand(x))
        gate = self.excite(jax.nn.silu(self.squeeze(y.mean((1, 2), keepdims=True))))
        y = self.project(y * jax.nn.sigmoid(gate))
        return self.drop(y) + x if self.is_residual else y


class EfficientNetB0(nnx.Module):
    """The encoder.

    Args:
      in_channels: of the image.
      drop_connect: rate at which the last residual branch is left out in training; the others'
        grow towards it.
      dtype: of the computation; parameters and statistics are float32.
      rngs: streams `params`, and `dropout` where that rate is not 0.
    """

    def __init__(self, in_channels: int, drop_connect: float, *, dtype, rngs: nnx.Rngs):
        options = {"dtype": dtype, "rngs": rngs}
        normal = {"activation": jax.nn.silu, **NORMAL, **options}
        self.stem = ConvBN(in_channels, STEM, stride=2, pads=same_pads(3, 2), **normal)
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
        """`[B, H, W, in]`, multiples of 32, to features `WIDTHS` at H/2, H/4, ..., H/32."""
        x = self.stem(x)
        out = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAKEN:
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
"""Where a checkpoint of EfficientNet-PyTorch belongs among the PyTorch names."""
STEM_KEY = "encoder._conv_stem.weight"
