"""EAL-ICNet: dilated convolutions combined with TSSA and position attention.

Wiring and PyTorch names follow the released code, https://github.com/chndaz/EAL-ICNet.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import (
    TSSA,
    BNPReLU,
    Conv,
    ConvBNPReLU,
    PositionAttention,
    max_pool_2x2,
)
from eal_icnet_jax.models.injection import InjectionNetwork

STEM, BLOCK_1, BLOCK_2 = 32, 64, 128
"""Channels at H/2, H/4 and H/8."""


class DABModule(nnx.Module):
    """Depth-wise asymmetric bottleneck: a plain and a dilated branch of 3x1 and 1x3 filters.

    `[B, H, W, features]` to the same shape.

    Args:
      features: channels, even.
      dilation: dilation of the second branch, or None to omit that branch.
      dtype: dtype of the computation.
      rngs: stream `params`.
    """

    def __init__(self, features: int, dilation: int | None, *, dtype, rngs: nnx.Rngs):
        half = features // 2
        options = {"dtype": dtype, "rngs": rngs}
        depthwise = {"depthwise": True, **options}
        self.bn_prelu_1 = BNPReLU(features, dtype=dtype)
        self.conv3x3 = ConvBNPReLU(features, half, **options)
        self.branch3x1 = ConvBNPReLU(half, half, (3, 1), **depthwise)
        self.branch1x3 = ConvBNPReLU(half, half, (1, 3), **depthwise)
        self.is_dilated = dilation is not None
        if self.is_dilated:
            self.dilated3x1 = ConvBNPReLU(half, half, (3, 1), dilation=(dilation, 1), **depthwise)
            self.dilated1x3 = ConvBNPReLU(half, half, (1, 3), dilation=(1, dilation), **depthwise)
        self.bn_prelu_2 = BNPReLU(half, dtype=dtype)
        self.conv1x1 = Conv(half, features, (1, 1), **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        entry = self.conv3x3(self.bn_prelu_1(x))
        y = self.branch1x3(self.branch3x1(entry))
        if self.is_dilated:
            y = y + self.dilated1x3(self.dilated3x1(entry))
        return self.conv1x1(self.bn_prelu_2(y)) + x


class Downsample(nnx.Module):
    """Stride-2 convolution, concatenated with the max-pooled input if the output is wider.

    `[B, H, W, in]` to `[B, ceil(H / 2), ceil(W / 2), out]`.
    """

    def __init__(self, in_features: int, out_features: int, *, dtype, rngs: nnx.Rngs):
        self.pools = in_features < out_features
        width = out_features - in_features if self.pools else out_features
        self.conv3x3 = Conv(in_features, width, stride=2, dtype=dtype, rngs=rngs)
        self.bn_prelu = BNPReLU(out_features, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv3x3(x)
        if self.pools:
            y = jnp.concatenate([y, max_pool_2x2(x)], -1)
        return self.bn_prelu(y)


class EALICNet(InjectionNetwork):
    """EAL-ICNet.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      block_1_dilations: dilation of each DAB module of the block at H/4; an empty block returns its
        input.
      block_2_dilations: dilation of each DAB module of the block at H/8.
      dilated_branch: whether the DAB modules have their dilated branch.
      use_tssa: whether TSSA of the second block's input is added to the block's output.
      use_position_attention: whether position attention of the second block's input, which includes
        that input, is added to the block's output.
      heads: heads of TSSA, a divisor of 128.
      dropout: rate of dropout on TSSA's output in training; 0 in the released code.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`, and stream `dropout` if that rate is not 0.
    """

    supports_canvas = True

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        block_1_dilations: Sequence[int] = (2, 2, 2),
        block_2_dilations: Sequence[int] = (4, 4, 8, 8, 16, 16),
        dilated_branch: bool = True,
        use_tssa: bool = True,
        use_position_attention: bool = True,
        heads: int = 8,
        dropout: float = 0.0,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}

        def dab_block(features, dilations):
            rates = dilations if dilated_branch else [None] * len(dilations)
            return nnx.List([DABModule(features, rate, **options) for rate in rates])

        self.init_conv = nnx.List(
            [
                ConvBNPReLU(in_channels, STEM, stride=2, **options),
                ConvBNPReLU(STEM, STEM, **options),
                ConvBNPReLU(STEM, STEM, **options),
            ]
        )
        self.bn_prelu_1 = BNPReLU(STEM + in_channels, dtype=dtype)
        self.downsample_1 = Downsample(STEM + in_channels, BLOCK_1, **options)
        self.dab_block_1 = dab_block(BLOCK_1, block_1_dilations)
        self.bn_prelu_2 = BNPReLU(2 * BLOCK_1 + in_channels, dtype=dtype)
        self.downsample_2 = Downsample(2 * BLOCK_1 + in_channels, BLOCK_2, **options)
        self.dab_block_2 = dab_block(BLOCK_2, block_2_dilations)
        tssa = functools.partial(TSSA, BLOCK_2, heads=heads, dropout=dropout, **options)
        self.tssa = tssa() if use_tssa else None
        attention = functools.partial(PositionAttention, BLOCK_2, **options)
        self.position_attention = attention() if use_position_attention else None
        self.bn_prelu_3 = BNPReLU(2 * BLOCK_2 + in_channels, dtype=dtype)
        self.classifier = Conv(2 * BLOCK_2 + in_channels, classes, (1, 1), **options)
        self.dtype = dtype

    def block_1(self, x: jax.Array) -> jax.Array:
        """Apply the DAB modules at H/4."""
        for module in self.dab_block_1:
            x = module(x)
        return x

    def block_2(self, entry: jax.Array) -> jax.Array:
        """Apply the DAB modules at H/8, and add both attentions of the block's input."""
        x = entry
        for module in self.dab_block_2:
            x = module(x)
        for attention in (self.position_attention, self.tssa):
            if attention is not None:
                x = x + attention(entry)
        return x


Model = EALICNet

TORCH_NAMES = (
    (r"dab_block_(\d)\.(\d+)\.", r"DAB_Block_\1.DAB_Module_\1_\2."),
    (r"(DAB_Module.*)\.bn_prelu_([12])\.(bn|prelu)", r"\1.bn_relu_\2.\3"),
    (r"\.branch(3x1|1x3)\.", r".dconv\1."),
    (r"\.dilated(3x1|1x3)\.", r".ddconv\1."),
    (r"((?:DAB_Module.*|downsample_\d)\.conv(?:1x1|3x3))\.kernel", r"\1.conv.kernel"),
    (r"\.prelu\.slope$", ".acti.weight"),
    (r"^classifier\.", "classifier.0.conv."),
    (r"^tssa\.temperature", "AttentionTSSA.temp"),
    (r"^tssa\.projection", "AttentionTSSA.qkv.kernel"),
    (r"^tssa\.output_", "AttentionTSSA.to_out.0."),
    (r"^position_attention\.(query|key|value)\.", r"PAM.\1_conv."),
    (r"^position_attention\.gamma", "PAM.gamma"),
)
"""Substitutions, applied in order, from our parameter paths to PyTorch's names; those of the last
component are in `torch_weights.LEAF_NAMES`."""

CHANNELS_AT = {
    "in_channels": ("init_conv.0.conv.weight", 1),
    "classes": ("classifier.0.conv.weight", 0),
}
"""PyTorch name and axis whose length is the value of an option."""
