"""UNet with batch normalisation, and bilinear upsampling in its decoder.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
Wiring and PyTorch names follow UNet.py of https://github.com/chndaz/EAL-ICNet, whose decoder holds
transposed convolutions that it never uses; they are kept so that no weight of a checkpoint is lost.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import Conv, ConvBN, ConvTranspose, max_pool_2x2, resize_bilinear
from eal_icnet_jax.models.network import Network


class DoubleConv(nnx.Module):
    """Two 3x3 convolutions: `[B, H, W, in]` to `[B, H, W, out]`."""

    def __init__(self, in_features: int, out_features: int, *, dtype, rngs: nnx.Rngs):
        options = {"use_bias": True, "dtype": dtype, "rngs": rngs}
        self.first = ConvBN(in_features, out_features, **options)
        self.second = ConvBN(out_features, out_features, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(self.first(x))


class Up(nnx.Module):
    """Coarse features at twice their size, concatenated with the encoder's, and a `DoubleConv`.

    `[B, h, w, in / 2]` and `[B, H, W, in / 2]` to `[B, H, W, out]`, where H is 2 h or 2 h + 1 and W
    is 2 w or 2 w + 1.
    """

    def __init__(self, in_features: int, out_features: int, **options):
        self.up = ConvTranspose(in_features // 2, in_features // 2, 2, **options)
        self.conv = DoubleConv(in_features, out_features, **options)

    def __call__(self, coarse: jax.Array, skip: jax.Array) -> jax.Array:
        height, width = (2 * size for size in coarse.shape[1:3])
        coarse = resize_bilinear(coarse, (height, width), align_corners=True)
        missing = (skip.shape[1] - height, skip.shape[2] - width)
        pads = ((0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0))
        return self.conv(jnp.concatenate([skip, jnp.pad(coarse, pads)], -1))


class UNet(Network):
    """UNet.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`.
    """

    def __init__(
        self, in_channels: int = 1, classes: int = 1, *, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.inc = DoubleConv(in_channels, 64, **options)
        self.down1 = DoubleConv(64, 128, **options)
        self.down2 = DoubleConv(128, 256, **options)
        self.down3 = DoubleConv(256, 512, **options)
        self.down4 = DoubleConv(512, 512, **options)
        self.up1 = Up(1024, 256, **options)
        self.up2 = Up(512, 128, **options)
        self.up3 = Up(256, 64, **options)
        self.up4 = Up(128, 64, **options)
        self.outc = Conv(64, classes, (1, 1), use_bias=True, **options)
        self.dtype = dtype

    def forward(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits `[B, H, W, classes]`, for any H and W."""
        x = self.inc(x)
        skips = []
        for down in (self.down1, self.down2, self.down3, self.down4):
            skips.append(x)
            # An odd last row or column is dropped here; `Up` pads it with zeros.
            height, width = (size // 2 * 2 for size in x.shape[1:3])
            x = down(max_pool_2x2(x[:, :height, :width]))
        for up in (self.up1, self.up2, self.up3, self.up4):
            x = up(x, skips.pop())
        return self.outc(x)


Model = UNet

TORCH_NAMES = (
    (r"^inc\.", "inc.conv."),
    (r"^down(\d)\.", r"down\1.mpconv.1."),
    (r"\.first\.conv\.", ".conv.0."),
    (r"\.first\.bn\.", ".conv.1."),
    (r"\.second\.conv\.", ".conv.3."),
    (r"\.second\.bn\.", ".conv.4."),
    (r"^outc\.", "outc.conv."),
)

CHANNELS_AT = {"in_channels": ("inc.conv.conv.0.weight", 1), "classes": ("outc.conv.weight", 0)}
