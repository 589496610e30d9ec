"""MA-Net on EfficientNet-b0: attention of all pixels to all, and gates where scales are joined.

Fan et al., "MA-Net: A Multi-Scale Attention Network for Liver and Tumor Segmentation", IEEE Access
2020. Wiring and PyTorch names follow segmentation_models_pytorch's MAnet.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import Conv, ConvBN, initialize, repeat_pixels
from eal_icnet_jax.models import efficientnet
from eal_icnet_jax.models.network import Network

WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoder's blocks."""


class PositionAttentionBlock(nnx.Module):
    """What every pixel takes from all, weighed by one softmax over all pairs, added to it.

    The original reads the weighted sums, pixels by channels, as channels by pixels; so does this.
    """

    def __init__(self, features: int, width: int = 64, *, dtype, rngs: nnx.Rngs):
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        self.top_conv = Conv(features, width, (1, 1), **options)
        self.center_conv = Conv(features, width, (1, 1), **options)
        self.bottom_conv = Conv(features, features, **options)
        self.out_conv = Conv(features, features, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to the same shape."""
        batch, height, width, features = x.shape
        top, center, bottom = (
            layer(x).reshape(batch, height * width, -1)
            for layer in (self.top_conv, self.center_conv, self.bottom_conv)
        )
        scores = jnp.einsum("bqc,bkc->bqk", center, top)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        weights = jax.nn.softmax(scores, (1, 2)).astype(bottom.dtype)
        mixed = (weights @ bottom).reshape(batch, features, height, width)
        return self.out_conv(x + mixed.transpose(0, 2, 3, 1))


class Gate(nnx.Module):
    """A factor in (0, 1) per channel from the channels' means."""

    def __init__(self, features: int, *, dtype, rngs: nnx.Rngs):
        squeezed = max(1, features // 16)
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        self.squeeze = Conv(features, squeezed, (1, 1), **options)
        self.excite = Conv(squeezed, features, (1, 1), **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, 1, 1, C]`."""
        means = x.mean((1, 2), keepdims=True)
        return jax.nn.sigmoid(self.excite(jax.nn.relu(self.squeeze(means))))


class FusionBlock(nnx.Module):
    """Coarse features, enlarged and gated by both scales, beside the encoder's."""

    def __init__(self, in_features: int, skip_features: int, out_features: int, **options):
        self.hl_conv = nnx.List(
            [
                ConvBN(in_features, in_features, **options),
                ConvBN(in_features, skip_features, (1, 1), **options),
            ]
        )
        self.gate_skip = Gate(skip_features, **options)
        self.gate_coarse = Gate(skip_features, **options)
        self.conv1 = ConvBN(2 * skip_features, out_features, **options)
        self.conv2 = ConvBN(out_features, out_features, **options)

    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        for conv in self.hl_conv:
            x = conv(x)
        x = repeat_pixels(x)
        x = x * (self.gate_coarse(x) + self.gate_skip(skip))
        return self.conv2(self.conv1(jnp.concatenate([x, skip], -1)))


class DecoderBlock(nnx.Module):
    """Coarse features, enlarged, beside finer ones if there are any."""

    def __init__(self, in_features: int, skip_features: int, out_features: int, **options):
        self.conv1 = ConvBN(in_features + skip_features, out_features, **options)
        self.conv2 = ConvBN(out_features, out_features, **options)

    def __call__(self, x: jax.Array, *finer: jax.Array) -> jax.Array:
        return self.conv2(self.conv1(jnp.concatenate([repeat_pixels(x), *finer], -1)))


class Decoder(nnx.Module):
    """The encoder's features, finest first, to `WIDTHS[-1]` channels at the image's size."""

    def __init__(self, **options):
        *skips, features = efficientnet.WIDTHS
        self.center = PositionAttentionBlock(features, **options)
        blocks = []
        for skip, width in zip(reversed(skips), WIDTHS, strict=False):
            blocks.append(FusionBlock(features, skip, width, **options))
            features = width
        self.blocks = nnx.List([*blocks, DecoderBlock(features, 0, WIDTHS[-1], **options)])

    def __call__(self, features: list[jax.Array]) -> jax.Array:
        *skips, x = features
        x = self.center(x)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, skips.pop())
        return last(x)


def initialize_decoder(decoder: nnx.Module, head: Conv, rngs: nnx.Rngs):
    """As segmentation_models_pytorch does."""
    zeros = jax.nn.initializers.zeros
    he, xavier = jax.nn.initializers.he_uniform(), jax.nn.initializers.xavier_uniform()
    initialize(decoder, (Conv,), rngs, kernel=he, bias=zeros)
    initialize(head, (Conv,), rngs, kernel=xavier, bias=zeros)


class MANet(Network):
    """The network.

    Args:
      in_channels: of the image.
      classes: logits per pixel.
      drop_connect: rate at which residual branches of the encoder are left out in training.
      dtype: of the computation; parameters, statistics and the returned logits are float32.
      rngs: streams `params`, and `dropout` where that rate is not 0.
    """

    multiple = 32

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        drop_connect: float = efficientnet.DROP_CONNECT,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.encoder = efficientnet.EfficientNetB0(in_channels, drop_connect, **options)
        self.decoder = Decoder(**options)
        self.segmentation_head = Conv(WIDTHS[-1], classes, use_bias=True, **options)
        self.dtype = dtype
        initialize_decoder(self.decoder, self.segmentation_head, rngs)

    def forward(self, x: jax.Array) -> jax.Array:
        """To logits of the image's size."""
        return self.segmentation_head(self.decoder(self.encoder(x)))


Model = MANet

TORCH_NAMES = (
    (r"\.gate_skip\.squeeze\.", ".SE_ll.1."),
    (r"\.gate_skip\.excite\.", ".SE_ll.3."),
    (r"\.gate_coarse\.squeeze\.", ".SE_hl.1."),
    (r"\.gate_coarse\.excite\.", ".SE_hl.3."),
    (r"^(decoder\.blocks\..*)\.conv\.", r"\1.0."),
    (r"^(decoder\.blocks\..*)\.bn\.", r"\1.1."),
    (r"^segmentation_head\.", "segmentation_head.0."),
    *efficientnet.TORCH_NAMES,
)

CHANNELS_AT = {
    "in_channels": (efficientnet.STEM_KEY, 1),
    "classes": ("segmentation_head.0.weight", 0),
}

ENCODER = efficientnet.ENCODER
