"""Networks of EfficientNet-b0 and a decoder, as segmentation_models_pytorch builds them."""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import Conv, ConvBN, initialize, repeat_pixels
from eal_icnet_jax.models import efficientnet
from eal_icnet_jax.models.network import Network

WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoder's blocks."""


class DecoderBlock(nnx.Module):
    """Coarse features, enlarged, beside finer ones if there are any."""

    def __init__(self, in_features: int, skip_features: int, out_features: int, **options):
        self.conv1 = ConvBN(in_features + skip_features, out_features, **options)
        self.conv2 = ConvBN(out_features, out_features, **options)

    def __call__(self, x: jax.Array, *finer: jax.Array) -> jax.Array:
        return self.conv2(self.conv1(jnp.concatenate([repeat_pixels(x), *finer], -1)))


class EncoderDecoder(Network):
    """The network; a subclass names its decoder.

    Args:
      in_channels: of the image.
      classes: logits per pixel.
      drop_connect: rate at which residual branches of the encoder are left out in training.
      dtype: of the computation; parameters, statistics and the returned logits are float32.
      rngs: streams `params`, and `dropout` where that rate is not 0.
    """

    decoder_class: type
    """Takes the encoder's features, finest first, to `WIDTHS[-1]` channels at the image's size."""

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
        zeros = jax.nn.initializers.zeros
        he, xavier = jax.nn.initializers.he_uniform(), jax.nn.initializers.xavier_uniform()
        initialize(self.decoder, (Conv,), rngs, kernel=he, bias=zeros)
        initialize(self.segmentation_head, (Conv,), rngs, kernel=xavier, bias=zeros)

    def forward(self, x: jax.Array) -> jax.Array:
        """To logits of the image's size."""
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
