"""MA-Net on EfficientNet-b0: attention between all pixels, and channel gates between scales.

Fan et al., "MA-Net: A Multi-Scale Attention Network for Liver and Tumor Segmentation", IEEE Access
2020. Wiring and PyTorch names follow segmentation_models_pytorch's MAnet.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import Conv, ConvBN, repeat_pixels
from eal_icnet_jax.models import efficientnet, encoder_decoder
from eal_icnet_jax.models.encoder_decoder import (
    CHANNELS_AT,
    ENCODER,
    WIDTHS,
    DecoderBlock,
    EncoderDecoder,
)


class PositionAttentionBlock(nnx.Module):
    """Attention of every pixel to every pixel, with one softmax over all pairs of pixels.

    As in the original, the weighted sums `[H W, C]` are reinterpreted as `[C, H W]` without a
    transposition before they are added to the input.
    """

    def __init__(self, features: int, width: int = 64, *, dtype, rngs: nnx.Rngs):
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        self.top_conv = Conv(features, width, (1, 1), **options)
        self.center_conv = Conv(features, width, (1, 1), **options)
        self.bottom_conv = Conv(features, features, **options)
        self.out_conv = Conv(features, features, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, C]` to the same shape."""
        batch, height, width, features = x.shape
        top, center, bottom = (
            layer(x).reshape(batch, height * width, -1)
            for layer in (self.top_conv, self.center_conv, self.bottom_conv)
        )
        scores = jnp.einsum("bqc,bkc->bqk", center, top)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        # Other runtimes know a softmax over one axis only.
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max((1, 2), keepdims=True)))
        weights = weights / weights.sum((1, 2), keepdims=True)
        mixed = (weights.astype(bottom.dtype) @ bottom).reshape(batch, features, height, width)
        return self.out_conv(x + mixed.transpose(0, 2, 3, 1))


class Gate(nnx.Module):
    """Squeeze and excitation: a factor in (0, 1) per channel, computed from all channels' means."""

    def __init__(self, features: int, *, dtype, rngs: nnx.Rngs):
        squeezed = max(1, features // 16)
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        self.squeeze = Conv(features, squeezed, (1, 1), **options)
        self.excite = Conv(squeezed, features, (1, 1), **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, C]` to `[B, 1, 1, C]`."""
        means = x.mean((1, 2), keepdims=True)
        return jax.nn.sigmoid(self.excite(jax.nn.relu(self.squeeze(means))))


class FusionBlock(nnx.Module):
    """Multi-scale fusion: coarse features, gated by both scales, concatenated with the encoder's.

    `[B, H, W, in]` and `[B, 2 H, 2 W, skip]` to `[B, 2 H, 2 W, out]`.
    """

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


class Decoder(nnx.Module):
    """Decoder of MA-Net: the encoder's features, finest first, to `[B, H, W, WIDTHS[-1]]`."""

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


class MANet(EncoderDecoder):
    """MA-Net. The arguments are those of `EncoderDecoder`."""

    decoder_class = Decoder


Model = MANet

TORCH_NAMES = (
    (r"\.gate_skip\.squeeze\.", ".SE_ll.1."),
    (r"\.gate_skip\.excite\.", ".SE_ll.3."),
    (r"\.gate_coarse\.squeeze\.", ".SE_hl.1."),
    (r"\.gate_coarse\.excite\.", ".SE_hl.3."),
    *encoder_decoder.TORCH_NAMES,
)

__all__ = ["CHANNELS_AT", "ENCODER", "TORCH_NAMES", "MANet", "Model"]
