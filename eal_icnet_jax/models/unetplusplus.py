"""UNet++ on EfficientNet-b0: decoders of every depth, densely connected at each resolution.

Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018.
Wiring and PyTorch names follow segmentation_models_pytorch's UnetPlusPlus.
"""

import jax
from flax import nnx

from eal_icnet_jax.models import efficientnet
from eal_icnet_jax.models.encoder_decoder import (
    CHANNELS_AT,
    ENCODER,
    TORCH_NAMES,
    WIDTHS,
    DecoderBlock,
    EncoderDecoder,
)

DEPTH = len(WIDTHS) - 1
"""Number of the encoder's skip connections."""


class Decoder(nnx.Module):
    """Decoder of UNet++: the encoder's features, finest first, to `[B, H, W, WIDTHS[-1]]`.

    Block `x_i_j` works at the resolution of the encoder's features with index j + 1 from the
    coarsest. It takes those features, the next coarser ones at twice their size, and the outputs of
    blocks `x_{i+1}_j` to `x_j_j`.
    """

    def __init__(self, **options):
        *skips, features = efficientnet.WIDTHS
        skips = skips[::-1]
        coarser = [features, *skips[:-1]]
        decoded = [features, *WIDTHS[:-1]]
        self.blocks = nnx.Dict()
        for j, skip in enumerate(skips):
            for i in range(j + 1):
                joined = skip * (j + 1 - i)
                # The outermost decoder has its own widths, the inner ones keep the encoder's.
                block = (
                    DecoderBlock(decoded[j], joined, WIDTHS[j], **options)
                    if i == 0
                    else DecoderBlock(coarser[j], joined, skip, **options)
                )
                self.blocks[f"x_{i}_{j}"] = block
        self.blocks[f"x_0_{DEPTH}"] = DecoderBlock(decoded[DEPTH], 0, WIDTHS[DEPTH], **options)

    def __call__(self, features: list[jax.Array]) -> jax.Array:
        features = features[::-1]
        done = {}
        for k in range(DEPTH):
            for i in range(DEPTH - k):
                j = i + k
                before = features[i] if k == 0 else done[i, j - 1]
                joined = [done[other, j] for other in range(i + 1, j + 1)]
                done[i, j] = self.blocks[f"x_{i}_{j}"](before, *joined, features[j + 1])
        return self.blocks[f"x_0_{DEPTH}"](done[0, DEPTH - 1])


class UNetPlusPlus(EncoderDecoder):
    """UNet++. The arguments are those of `EncoderDecoder`."""

    decoder_class = Decoder


Model = UNetPlusPlus

__all__ = ["CHANNELS_AT", "ENCODER", "TORCH_NAMES", "Model", "UNetPlusPlus"]
