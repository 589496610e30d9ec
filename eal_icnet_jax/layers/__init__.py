"""What the networks share: convolutions, normalisation, attention, pooling, resizing.

Every layer takes and returns NHWC arrays `[B, H, W, C]`, keeps its parameters in float32 and
computes in its `dtype`. Names, defaults and initialisation follow PyTorch, so that weights and
training carry over.
"""

from eal_icnet_jax.layers.attention import TSSA, PositionAttention
from eal_icnet_jax.layers.convolution import (
    Conv,
    ConvBN,
    ConvBNPReLU,
    ConvTranspose,
    fold_batch_norms,
)
from eal_icnet_jax.layers.frame import frame, frame_for
from eal_icnet_jax.layers.initializers import initialize
from eal_icnet_jax.layers.linear import LayerNorm, Linear
from eal_icnet_jax.layers.normalization import BatchNorm, BNPReLU, Counter, PReLU
from eal_icnet_jax.layers.pooling import avg_pool_3x3, max_pool_2x2
from eal_icnet_jax.layers.regularization import dropout, dropout_channels, dropout_images
from eal_icnet_jax.layers.repetition import in_turn
from eal_icnet_jax.layers.resizing import pad_to_multiple, repeat_pixels, resize_bilinear
from eal_icnet_jax.layers.sharing import shared_by

__all__ = [
    "TSSA",
    "BNPReLU",
    "BatchNorm",
    "Conv",
    "ConvBN",
    "ConvBNPReLU",
    "ConvTranspose",
    "Counter",
    "LayerNorm",
    "Linear",
    "PReLU",
    "PositionAttention",
    "avg_pool_3x3",
    "dropout",
    "dropout_channels",
    "dropout_images",
    "fold_batch_norms",
    "frame",
    "frame_for",
    "in_turn",
    "initialize",
    "max_pool_2x2",
    "pad_to_multiple",
    "repeat_pixels",
    "resize_bilinear",
    "shared_by",
]
