"""IRDPNet: inverted residual modules of parallel dilated depthwise convolutions.

Wiring and PyTorch names follow IRDP.py of https://github.com/chndaz/EAL-ICNet.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import BNPReLU, Conv, ConvBNPReLU, max_pool_2x2
from eal_icnet_jax.models.injection import InjectionNetwork

STEM, BLOCK_1, BLOCK_2 = 32, 64, 128
"""Channels at H/2, H/4 and H/8."""


class IRDPModule(nnx.Module):
    """Inverted residual module: a plain 3x3 convolution and four dilated depthwise ones.

    The second depthwise convolution takes the sum of the plain and the first one's output, the
    fourth takes the sum of the first and the third one's.
    `[B, H, W, features]` to the same shape.

    Args:
      features: channels.
      dilations: dilations of the depthwise convolutions.
      dtype: dtype of the computation.
      rngs: stream `params`.
    """

    def __init__(self, features: int, dilations: tuple[int, int, int, int], *, dtype, rngs):
        options = {"dtype": dtype, "rngs": rngs}
        self.bn_prelu_1 = BNPReLU(features, dtype=dtype)
        self.conv1x1 = Conv(features, features, (1, 1), **options)
        self.conv3x3 = ConvBNPReLU(features, features, **options)
        self.dilated_1, self.dilated_2, self.dilated_3, self.dilated_4 = (
            ConvBNPReLU(features, features, dilation=(d, d), depthwise=True, **options)
            for d in dilations
        )
        self.final = ConvBNPReLU(features, features, depthwise=True, **options)
        self.bn_prelu_2 = BNPReLU(features, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv1x1(self.bn_prelu_1(x))
        plain, first, third = self.conv3x3(y), self.dilated_1(y), self.dilated_3(y)
        y = self.dilated_2(plain + first) + self.dilated_4(first + third)
        return self.bn_prelu_2(self.final(y) + x)


class Downsample(nnx.Module):
    """A 3x1 and a 1x3 convolution, concatenated with the max-pooled input if the output is wider.

    `[B, H, W, in]` to `[B, ceil(H / 2), ceil(W / 2), out]`.
    """

    def __init__(self, in_features: int, out_features: int, *, dtype, rngs: nnx.Rngs):
        self.pools = in_features < out_features
        width = out_features - in_features if self.pools else out_features
        options = {"dtype": dtype, "rngs": rngs}
        self.conv3x1 = Conv(in_features, in_features, (3, 1), **options)
        self.conv1x3 = Conv(in_features, width, (1, 3), **options)
        self.bn_prelu = BNPReLU(out_features, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        # Along an axis in which the filter has one tap, stride 2 takes every second pixel.
        y = self.conv1x3(self.conv3x1(x[:, :, ::2])[:, ::2])
        if self.pools:
            y = jnp.concatenate([y, max_pool_2x2(x)], -1)
        return self.bn_prelu(y)


class IRDPNet(InjectionNetwork):
    """IRDPNet.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      block_1: number of modules at H/4.
      block_2: number of modules at H/8.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        block_1: int = 2,
        block_2: int = 5,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}

        def irdp_block(features, count):
            # The released constructor overwrites its module of dilations 1, 2, 1, 2 with the next
            # one, so that all modules have the same dilations.
            return nnx.Dict(
                {
                    f"module_{k}": IRDPModule(features, (2, 4, 8, 16), **options)
                    for k in range(1, count + 1)
                }
            )

        self.init_conv = nnx.List(
            [
                ConvBNPReLU(in_channels, STEM, stride=2, **options),
                ConvBNPReLU(STEM, STEM, depthwise=True, **options),
                ConvBNPReLU(STEM, STEM, depthwise=True, **options),
            ]
        )
        self.bn_prelu_1 = BNPReLU(STEM + in_channels, dtype=dtype)
        self.downsample_1 = Downsample(STEM + in_channels, BLOCK_1, **options)
        self.irdp_block_1 = irdp_block(BLOCK_1, block_1)
        self.bn_prelu_2 = BNPReLU(2 * BLOCK_1 + in_channels, dtype=dtype)
        self.downsample_2 = Downsample(2 * BLOCK_1 + in_channels, BLOCK_2, **options)
        self.irdp_block_2 = irdp_block(BLOCK_2, block_2)
        self.bn_prelu_3 = BNPReLU(2 * BLOCK_2 + in_channels, dtype=dtype)
        self.classifier = Conv(2 * BLOCK_2 + in_channels, classes, (1, 1), **options)
        self.dtype = dtype

    def block_1(self, x: jax.Array) -> jax.Array:
        """Apply the modules at H/4."""
        for module in self.irdp_block_1.values():
            x = module(x)
        return x

    def block_2(self, x: jax.Array) -> jax.Array:
        """Apply the modules at H/8."""
        for module in self.irdp_block_2.values():
            x = module(x)
        return x


Model = IRDPNet

TORCH_NAMES = (
    (r"irdp_block_(\d)\.module_(\d+)\.", r"IRDP_Block_\1.IRDP_Module_\1_\2."),
    (r"(IRDP_Module.*)\.bn_prelu_([12])\.(bn|prelu)", r"\1.bn_relu_\2.\3"),
    (r"\.dilated_(\d)\.", r".d\1conv3x3."),
    (r"\.final\.", r".final_conv3x3."),
    (r"((?:IRDP_Module|downsample).*\.conv(?:1x1|3x1|1x3))\.kernel", r"\1.conv.kernel"),
    (r"\.prelu\.slope$", ".acti.weight"),
    (r"^classifier\.", "classifier.0.conv."),
)

CHANNELS_AT = {
    "in_channels": ("init_conv.0.conv.weight", 1),
    "classes": ("classifier.0.conv.weight", 0),
}
