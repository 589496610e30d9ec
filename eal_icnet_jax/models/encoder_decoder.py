"""EfficientNet-b0 with a decoder, as segmentation_models_pytorch builds them."""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import Conv, ConvBN, initializers, reinitialize, repeat_pixels
from eal_icnet_jax.models import efficientnet
from eal_icnet_jax.models.network import Network

WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoder's blocks."""


class DecoderBlock(nnx.Module):
    """Coarse features at twice their size, concatenated with finer ones, and two convolutions.

    Args:
      in_features: channels of the coarse features.
      skip_features: channels of all finer features together, 0 for none.
      out_features: output channels.
      **options: `dtype` and `rngs`.
    """

    def __init__(self, in_features: int, skip_features: int, out_features: int, **options):
        self.conv1 = ConvBN(in_features + skip_features, out_features, **options)
        self.conv2 = ConvBN(out_features, out_features, **options)

    def __call__(self, x: jax.Array, *finer: jax.Array) -> jax.Array:
        """Map `[B, H, W, in]` and any number of `[B, 2 H, 2 W, C]` to `[B, 2 H, 2 W, out]`."""
        return self.conv2(self.conv1(jnp.concatenate([repeat_pixels(x), *finer], -1)))


class EncoderDecoder(Network):
    """EfficientNet-b0, a decoder and a convolution to logits; a subclass chooses the decoder.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      drop_connect: rate at which the encoder's last residual branch is dropped in training.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`, and stream `dropout` if that rate is not 0.
    """

    decoder_class: type
    """Class of the decoder, which maps the encoder's features, finest first, to
    `[B, H, W, WIDTHS[-1]]`."""

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
        self.decoder = self.decoder_class(**options)
        self.segmentation_head = Conv(WIDTHS[-1], classes, use_bias=True, **options)
        self.dtype = dtype
        zeros = initializers.zeros
        he = initializers.variance_scaling(2, "fan_in", "uniform")
        xavier = initializers.variance_scaling(1, "fan_avg", "uniform")
        reinitialize(self.decoder, (Conv,), rngs, kernel=he, bias=zeros)
        reinitialize(self.segmentation_head, (Conv,), rngs, kernel=xavier, bias=zeros)

    def forward(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits `[B, H, W, classes]`."""
        return self.segmentation_head(self.decoder(self.encoder(x)))


TORCH_NAMES = (
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
