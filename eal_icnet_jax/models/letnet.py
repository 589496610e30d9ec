"""LETNet: dilated bottlenecks with channel attention, an efficient transformer, and skips.

Xu et al., "Lightweight Real-Time Semantic Segmentation Network With Efficient Transformer and CNN",
IEEE T-ITS 2023. Wiring and PyTorch names follow LETNet.py, transformer.py and patch.py of
https://github.com/chndaz/EAL-ICNet. Two of its pixel attentions are never used; they are kept so
that no weight of a checkpoint is lost.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import BNPReLU, Conv, ConvBNPReLU, layer_norm, linear
from eal_icnet_jax.layers.initializers import kernel_init
from eal_icnet_jax.models.eal_icnet import Downsample
from eal_icnet_jax.models.esnet import Upsample
from eal_icnet_jax.models.network import Network

DILATIONS = {
    1: (2, 2, 2),
    2: (1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32),
    3: (1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32),
    4: (2, 2, 2),
    5: (2, 2, 2),
    6: (2, 2, 2),
}
"""Dilations of the DAB modules of each block."""

WIDTHS = {1: 64, 2: 128, 3: 32, 4: 32, 5: 16, 6: 16}
"""Channels of each block."""


class ChannelAttention(nnx.Module):
    """Scales each channel by a gate computed from the means of the channel and its two neighbours.

    Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
    CVPR 2020.
    """

    def __init__(self, *, dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (3, 1, 1), jnp.float32))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, C]` to the same shape."""
        means = jnp.pad(x.mean((1, 2)), ((0, 0), (1, 1)))
        features = x.shape[-1]
        gate = sum(
            means[:, k : k + features] * self.kernel[k, 0, 0].astype(self.dtype) for k in range(3)
        )
        return x * jax.nn.sigmoid(gate)[:, None, None]


class DABModule(nnx.Module):
    """Depth-wise asymmetric bottleneck with channel attention and a channel shuffle at its end.

    `[B, H, W, features]` to the same shape.

    Args:
      features: channels, even.
      dilation: dilation of the second branch.
      dtype: dtype of the computation.
      rngs: stream `params`.
    """

    def __init__(self, features: int, dilation: int, *, dtype, rngs: nnx.Rngs):
        half = features // 2
        options = {"dtype": dtype, "rngs": rngs}
        depthwise = {"depthwise": True, **options}
        self.bn_prelu_1 = BNPReLU(features, dtype=dtype)
        self.conv1x1_in = Conv(features, half, (1, 1), **options)
        self.conv3x1 = ConvBNPReLU(half, half, (3, 1), **options)
        self.conv1x3 = ConvBNPReLU(half, half, (1, 3), **options)
        self.branch3x1 = ConvBNPReLU(half, half, (3, 1), **depthwise)
        self.branch1x3 = ConvBNPReLU(half, half, (1, 3), **depthwise)
        self.branch_attention = ChannelAttention(**options)
        self.dilated3x1 = ConvBNPReLU(half, half, (3, 1), dilation=(dilation, 1), **depthwise)
        self.dilated1x3 = ConvBNPReLU(half, half, (1, 3), dilation=(1, dilation), **depthwise)
        self.dilated_attention = ChannelAttention(**options)
        self.bn_prelu_2 = BNPReLU(half, dtype=dtype)
        self.conv1x1 = Conv(half, features, (1, 1), **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv1x3(self.conv3x1(self.conv1x1_in(self.bn_prelu_1(x))))
        plain = self.branch_attention(self.branch1x3(self.branch3x1(y)))
        dilated = self.dilated_attention(self.dilated1x3(self.dilated3x1(y)))
        y = self.conv1x1(self.bn_prelu_2(plain + dilated + y)) + x
        return y.reshape(*y.shape[:-1], -1, 2).swapaxes(-1, -2).reshape(y.shape)


class EfficientAttention(nnx.Module):
    """Self-attention on half of the features, within each quarter of the tokens.

    Args:
      features: features of a token, even.
      heads: attention heads.
      dtype: dtype of the computation; the softmax is float32 at least.
      rngs: stream `params`.
    """

    def __init__(self, features: int, heads: int, *, dtype, rngs: nnx.Rngs):
        half = features // 2
        options = {"dtype": dtype, "rngs": rngs}
        self.reduce = linear(features, half, use_bias=False, **options)
        self.qkv = linear(half, 3 * half, use_bias=False, **options)
        self.proj = linear(half, features, **options)
        self.heads = heads

    def _attend(self, qkv: jax.Array) -> jax.Array:
        """Attend within each part: `[B, parts, n, 3, heads, F]` to `[B, parts, n, heads, F]`.

        The axis of length 3 holds query, key and value.
        """
        query, key, value = (part[:, :, :, 0] for part in jnp.split(qkv, 3, 3))
        scores = jnp.einsum("bpqhf,bpkhf->bphqk", query, key) * query.shape[-1] ** -0.5
        weights = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)))
        return jnp.einsum("bphqk,bpkhf->bpqhf", weights.astype(value.dtype), value)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map tokens `[B, N, features]`, N at least 4, to the same shape."""
        batch, count, _ = x.shape
        qkv = self.qkv(self.reduce(x)).reshape(batch, count, 3, self.heads, -1)
        size = count // 4
        covered = count // size * size
        parts = [qkv[:, :covered].reshape(batch, -1, size, *qkv.shape[2:])]
        if covered < count:
            parts.append(qkv[:, None, covered:])
        out = [self._attend(part).reshape(batch, -1, self.proj.kernel.shape[0]) for part in parts]
        return self.proj(jnp.concatenate(out, 1))


class MLP(nnx.Module):
    """Two linear layers: `[B, N, features]` to the same shape."""

    def __init__(self, features: int, hidden: int, *, dtype, rngs: nnx.Rngs):
        self.fc1 = linear(features, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = linear(hidden, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(jax.nn.relu(self.fc1(x)))


def _window(x: jax.Array, corner: tuple[int, int], size: tuple[int, int]) -> jax.Array:
    """Return `[B, *size, C]` of `[B, H, W, C]` from a corner (row, column) on."""
    batch, _, _, features = x.shape
    ends = (corner[k] + size[k] for k in range(2))
    return jax.lax.slice(x, (0, *corner, 0), (batch, *ends, features))


class EfficientTransformer(nnx.Module):
    """A transformer layer whose tokens are the 3x3 neighbourhoods of all pixels.

    The output tokens are neighbourhoods again, and overlapping ones are summed.
    `[B, H, W, features]` to the same shape.
    """

    def __init__(self, features: int, *, dtype, rngs: nnx.Rngs):
        width = 9 * features
        options = {"dtype": dtype, "rngs": rngs}
        self.norm1 = layer_norm(width, dtype=dtype)
        self.atten = EfficientAttention(width, 8, **options)
        self.norm2 = layer_norm(width, dtype=dtype)
        self.mlp = MLP(width, width // 4, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, features = x.shape
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        offsets = [(i, j) for i in range(3) for j in range(3)]
        # The order of PyTorch's unfold: nine neighbours of the first channel, then of the second.
        size = (height, width)
        patches = jnp.stack([_window(padded, (i, j), size) for i, j in offsets], -1)
        tokens = patches.reshape(batch, height * width, 9 * features)
        tokens = tokens + self.atten(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        patches = tokens.reshape(batch, height, width, features, 9)
        patches = jnp.pad(patches, ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0)))
        return sum(
            _window(patches[..., k], (2 - i, 2 - j), size) for k, (i, j) in enumerate(offsets)
        )


class LongConnection(nnx.Module):
    """A 3x1 and a 1x3 convolution on the way from encoder to decoder.

    `[B, H, W, in]` to `[B, H, W, out]`.
    """

    def __init__(self, in_features: int, out_features: int, *, dtype, rngs: nnx.Rngs):
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        self.dconv3x1 = Conv(in_features, in_features // 2, (3, 1), **options)
        self.dconv1x3 = Conv(in_features // 2, out_features, (1, 3), **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dconv1x3(self.dconv3x1(x))


class PixelAttention(nnx.Module):
    """Scales every value by a gate computed from its pixel: `[B, H, W, C]` to the same shape."""

    def __init__(self, features: int, *, dtype, rngs: nnx.Rngs):
        self.conv = Conv(features, features, (1, 1), use_bias=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * jax.nn.sigmoid(self.conv(x))


def _apply_all(modules: nnx.List, x: jax.Array) -> jax.Array:
    for module in modules:
        x = module(x)
    return x


class LETNet(Network):
    """LETNet.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`.
    """

    multiple = 16

    def __init__(
        self, in_channels: int = 1, classes: int = 1, *, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        options = {"dtype": dtype, "rngs": rngs}

        def dab_block(k):
            return nnx.List([DABModule(WIDTHS[k], d, **options) for d in DILATIONS[k]])

        def norm(features):
            return BNPReLU(features, dtype=dtype)

        self.init_conv = nnx.List(
            [
                ConvBNPReLU(in_channels, 32, **options),
                ConvBNPReLU(32, 32, **options),
                ConvBNPReLU(32, 32, stride=2, **options),
            ]
        )
        self.bn_prelu_1 = norm(32)
        self.downsample_1 = Downsample(32, 64, **options)
        self.dab_block_1, self.bn_prelu_2 = dab_block(1), norm(64)
        self.downsample_2 = Downsample(64, 128, **options)
        self.dab_block_2, self.bn_prelu_3 = dab_block(2), norm(128)
        self.downsample_3 = Downsample(128, 32, **options)
        self.dab_block_3, self.bn_prelu_4 = dab_block(3), norm(32)
        self.transformer = EfficientTransformer(32, **options)
        self.dab_block_4, self.bn_prelu_5 = dab_block(4), norm(16)
        self.dab_block_5, self.bn_prelu_6 = dab_block(5), norm(16)
        self.dab_block_6, self.bn_prelu_7 = dab_block(6), norm(16)
        self.upsample_1, self.upsample_2, self.upsample_3 = (
            Upsample(width, 16, activation=jax.nn.relu6, **options) for width in (32, 16, 16)
        )
        self.pa1, self.pa2, self.pa3 = (PixelAttention(16, **options) for _ in range(3))
        self.lc1 = LongConnection(64, 16, **options)
        self.lc2 = LongConnection(128, 16, **options)
        self.lc3 = LongConnection(32, 32, **options)
        self.classifier = Conv(16, classes, (1, 1), **options)
        self.dtype = dtype

    def forward(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits `[B, H / 2, W / 2, classes]`.

        The original resizes the features and then classifies every pixel. Resizing and the 1x1
        convolution commute.
        """
        x = self.bn_prelu_1(_apply_all(self.init_conv, x))
        quarter = self.bn_prelu_2(_apply_all(self.dab_block_1, self.downsample_1(x)))
        eighth = self.bn_prelu_3(_apply_all(self.dab_block_2, self.downsample_2(quarter)))
        coarse = self.bn_prelu_4(_apply_all(self.dab_block_3, self.downsample_3(eighth)))

        x = _apply_all(self.dab_block_4, self.transformer(coarse))
        x = self.bn_prelu_5(self.upsample_1(x + self.lc3(coarse)))
        x = _apply_all(self.dab_block_5, x)
        x = self.bn_prelu_6(self.upsample_2(x + self.lc2(eighth)))
        x = _apply_all(self.dab_block_6, x)
        x = self.bn_prelu_7(self.pa3(self.upsample_3(x + self.lc1(quarter))))
        return self.classifier(x)


Model = LETNet

TORCH_NAMES = (
    (r"dab_block_(\d)\.(\d+)\.", r"DAB_Block_\1.DAB_Module_\1_\2."),
    (r"(DAB_Module.*)\.bn_prelu_([12])\.(bn|prelu)", r"\1.bn_relu_\2.\3"),
    (r"\.branch(3x1|1x3)\.", r".dconv\1."),
    (r"\.dilated(3x1|1x3)\.", r".ddconv\1."),
    (r"\.branch_attention\.", ".ca11.conv."),
    (r"\.dilated_attention\.", ".ca22.conv."),
    (r"((?:DAB_Module.*|downsample_\d)\.conv(?:1x1|1x1_in|3x3))\.kernel", r"\1.conv.kernel"),
    (r"\.prelu\.slope$", ".acti.weight"),
    (r"^transformer\.", "transformer1."),
    (r"^pa(\d)", r"PA\1"),
    (r"^lc(\d)", r"LC\1"),
    (r"^classifier\.", "classifier.0.conv."),
)

CHANNELS_AT = {
    "in_channels": ("init_conv.0.conv.weight", 1),
    "classes": ("classifier.0.conv.weight", 0),
}
