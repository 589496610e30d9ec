"""ESNet: a symmetric encoder and decoder of factorized convolution units.

Wang et al., "ESNet: An Efficient Symmetric Network for Real-time Semantic Segmentation", PRCV 2019.
Wiring and PyTorch names follow ESNet.py of https://github.com/chndaz/EAL-ICNet.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import (
    BatchNorm,
    Conv,
    ConvBN,
    ConvTranspose,
    dropout_channels,
    max_pool_2x2,
)
from eal_icnet_jax.models.network import Network

EPSILON = 1e-3
"""Epsilon of every batch normalisation."""


class Downsample(nnx.Module):
    """Stride-2 convolution, concatenated with the max-pooled input.

    `[B, H, W, in]` to `[B, H / 2, W / 2, out]`.
    """

    def __init__(self, in_features: int, out_features: int, *, dtype, rngs: nnx.Rngs):
        width = out_features - in_features
        self.conv = Conv(in_features, width, stride=2, use_bias=True, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(out_features, epsilon=EPSILON, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.bn(jnp.concatenate([self.conv(x), max_pool_2x2(x)], -1)))


class Upsample(nnx.Module):
    """Transposed convolution, normalisation and activation.

    `[B, H, W, in]` to `[B, 2 H, 2 W, out]`.
    """

    def __init__(self, in_features, out_features, *, activation=jax.nn.relu, dtype, rngs: nnx.Rngs):
        self.conv = ConvTranspose(in_features, out_features, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(out_features, epsilon=EPSILON, dtype=dtype)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.activation(self.bn(self.conv(x)))


class FCU(nnx.Module):
    """Factorized convolution unit: two pairs of `size` x 1 and 1 x `size` convolutions.

    `[B, H, W, features]` to the same shape.
    """

    def __init__(self, features: int, size: int, dropout: float, *, dtype, rngs: nnx.Rngs):
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        normal = {"epsilon": EPSILON, **options}
        self.conv3x1_1 = Conv(features, features, (size, 1), **options)
        self.conv1x3_1 = ConvBN(features, features, (1, size), **normal)
        self.conv3x1_2 = Conv(features, features, (size, 1), **options)
        self.conv1x3_2 = ConvBN(features, features, (1, size), activation=None, **normal)
        self.dropout = dropout_channels(dropout, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv1x3_1(jax.nn.relu(self.conv3x1_1(x)))
        y = self.conv1x3_2(jax.nn.relu(self.conv3x1_2(y)))
        return jax.nn.relu(x + self.dropout(y))


class PFCU(nnx.Module):
    """Parallel factorized convolution unit: three dilated branches that share a normalisation.

    `[B, H, W, features]` to the same shape.
    """

    DILATIONS = (2, 5, 9)

    def __init__(self, features: int, dropout: float, *, dtype, rngs: nnx.Rngs):
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        self.conv3x1_1 = Conv(features, features, (3, 1), **options)
        self.conv1x3_1 = ConvBN(features, features, (1, 3), epsilon=EPSILON, **options)
        self.branches = nnx.Dict()
        for d in self.DILATIONS:
            self.branches[f"conv3x1_2{d}"] = Conv(
                features, features, (3, 1), dilation=(d, 1), **options
            )
            self.branches[f"conv1x3_2{d}"] = Conv(
                features, features, (1, 3), dilation=(1, d), **options
            )
        self.bn2 = BatchNorm(features, epsilon=EPSILON, dtype=dtype)
        self.dropout = dropout_channels(dropout, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv1x3_1(jax.nn.relu(self.conv3x1_1(x)))
        total = x
        for d in self.DILATIONS:
            branch = self.branches[f"conv1x3_2{d}"](jax.nn.relu(self.branches[f"conv3x1_2{d}"](y)))
            total = total + self.dropout(self.bn2(branch))
        return jax.nn.relu(total)


class ESNet(Network):
    """ESNet.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      dropout: rates of dropped channels in training, in the encoder's FCU and PFCU modules.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`, and stream `dropout` if those rates are not 0.
    """

    multiple = 8

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        dropout: tuple[float, float] = (0.03, 0.3),
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        fcu_dropout, pfcu_dropout = dropout
        self.initial_block = Downsample(in_channels, 16, **options)
        self.layers = nnx.List(
            [
                *(FCU(16, 3, fcu_dropout, **options) for _ in range(3)),
                Downsample(16, 64, **options),
                *(FCU(64, 5, fcu_dropout, **options) for _ in range(2)),
                Downsample(64, 128, **options),
                *(PFCU(128, pfcu_dropout, **options) for _ in range(3)),
                Upsample(128, 64, **options),
                *(FCU(64, 5, 0, **options) for _ in range(2)),
                Upsample(64, 16, **options),
                *(FCU(16, 3, 0, **options) for _ in range(2)),
            ]
        )
        self.output_conv = ConvTranspose(16, classes, 2, **options)
        self.dtype = dtype

    def forward(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits `[B, H, W, classes]`."""
        x = self.initial_block(x)
        for layer in self.layers:
            x = layer(x)
        return self.output_conv(x)


Model = ESNet

TORCH_NAMES = (
    (r"\.branches\.", "."),
    (r"\.conv1x3_(\d)\.bn\.", r".bn\1."),
    (r"\.(conv1x3_\d)\.conv\.", r".\1."),
)

CHANNELS_AT = {
    "in_channels": ("initial_block.conv.weight", 1),
    "classes": ("output_conv.weight", 1),
}
