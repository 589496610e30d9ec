"""EDANet: densely connected modules of asymmetric, dilated convolutions.

Lo et al., "Efficient Dense Modules of Asymmetric Convolution for Real-Time Semantic Segmentation",
MMAsia 2019. Wiring and PyTorch names follow EDANet.py of https://github.com/chndaz/EAL-ICNet.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import (
    BatchNorm,
    Conv,
    ConvBN,
    dropout_channels,
    initializers,
    max_pool_2x2,
    reinitialize,
)
from eal_icnet_jax.models.network import Network

GROWTH = 40
"""Number of channels that each module adds."""


class Downsample(nnx.Module):
    """Stride-2 convolution, concatenated with the max-pooled input if the output is wider.

    `[B, H, W, in]` to `[B, ceil(H / 2), ceil(W / 2), out]`.
    """

    def __init__(self, in_features: int, out_features: int, *, dtype, rngs: nnx.Rngs):
        self.pools = in_features < out_features
        width = out_features - in_features if self.pools else out_features
        self.conv = Conv(in_features, width, stride=2, use_bias=True, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(out_features, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(x)
        if self.pools:
            y = jnp.concatenate([y, max_pool_2x2(x)], -1)
        return jax.nn.relu(self.bn(y))


class EDAModule(nnx.Module):
    """A plain and then a dilated pair of 3x1 and 1x3 convolutions, concatenated with the input.

    `[B, H, W, in]` to `[B, H, W, GROWTH + in]`.

    Args:
      in_features: input channels.
      dilation: dilation of the second pair.
      dropout: rate of dropped channels in training.
      dtype: dtype of the computation.
      rngs: stream `params`, and stream `dropout` if that rate is not 0.
    """

    def __init__(self, in_features: int, dilation: int, dropout: float, *, dtype, rngs):
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        self.conv1x1 = ConvBN(in_features, GROWTH, (1, 1), **options)
        self.conv3x1_1 = Conv(GROWTH, GROWTH, (3, 1), **options)
        self.conv1x3_1 = ConvBN(GROWTH, GROWTH, (1, 3), **options)
        self.conv3x1_2 = Conv(GROWTH, GROWTH, (3, 1), dilation=(dilation, 1), **options)
        self.conv1x3_2 = ConvBN(GROWTH, GROWTH, (1, 3), dilation=(1, dilation), **options)
        self.dropout = dropout_channels(dropout, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv1x3_1(self.conv3x1_1(self.conv1x1(x)))
        y = self.conv1x3_2(self.conv3x1_2(y))
        return jnp.concatenate([self.dropout(y), x], -1)


class EDABlock(nnx.Module):
    """A chain of EDA modules: `[B, H, W, in]` to `[B, H, W, in + GROWTH * len(dilations)]`."""

    def __init__(self, in_features: int, dilations: tuple[int, ...], dropout: float, **options):
        self.modules = nnx.List(
            [
                EDAModule(in_features + GROWTH * k, dilation, dropout, **options)
                for k, dilation in enumerate(dilations)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for module in self.modules:
            x = module(x)
        return x


class EDANet(Network):
    """EDANet.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      dropout: rate of dropped channels in training.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`, and stream `dropout` if that rate is not 0.
    """

    align_corners = True

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        dropout: float = 0.02,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.layers = nnx.List(
            [
                Downsample(in_channels, 15, **options),
                Downsample(15, 60, **options),
                EDABlock(60, (1, 1, 1, 2, 2), dropout, **options),
                Downsample(260, 130, **options),
                EDABlock(130, (2, 2, 4, 4, 8, 8, 16, 16), dropout, **options),
            ]
        )
        self.project_layer = Conv(450, classes, (1, 1), use_bias=True, **options)
        self.dtype = dtype
        normal = initializers.normal(0.02)
        reinitialize(self, (Conv,), rngs, kernel=normal)
        reinitialize(self, (BatchNorm,), rngs, scale=lambda *arguments: 1 + normal(*arguments))

    def forward(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits `[B, ceil(H / 8), ceil(W / 8), classes]`."""
        for layer in self.layers:
            x = layer(x)
        return self.project_layer(x)


Model = EDANet

TORCH_NAMES = (
    (r"\.modules\.", ".residual_dense_layers."),
    (r"\.conv1x1\.bn\.", ".bn0."),
    (r"\.conv1x3_(\d)\.bn\.", r".bn\1."),
    (r"\.(conv1x1|conv1x3_\d)\.conv\.", r".\1."),
)

CHANNELS_AT = {"in_channels": ("layers.0.conv.weight", 1), "classes": ("project_layer.weight", 0)}
