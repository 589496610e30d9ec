"""Layers that the networks share: convolutions, normalisation, attention, pooling, resizing.

Every layer takes and returns NHWC arrays `[B, H, W, C]`, keeps its parameters in float32 and
computes in its `dtype`. Names, defaults and initialisation follow PyTorch, so that weights and
training results carry over.
"""

from eal_icnet_jax.layers.attention import TSSA, PositionAttention
from eal_icnet_jax.layers.batch_sharding import batch_sharded_over
from eal_icnet_jax.layers.canvas import on_canvas
from eal_icnet_jax.layers.convolution_layers import (
    Conv,
    ConvBN,
    ConvBNPReLU,
    ConvTranspose,
    fold_batch_norms,
)
from eal_icnet_jax.layers.initializers import KeylessRngs, reinitialize
from eal_icnet_jax.layers.linear_layers import layer_norm, linear
from eal_icnet_jax.layers.normalization import BatchNorm, BNPReLU, Counter, PReLU
from eal_icnet_jax.layers.padding import pad_to_multiple
from eal_icnet_jax.layers.pooling import avg_pool_3x3, max_pool_2x2
from eal_icnet_jax.layers.regularization import dropout, dropout_channels, dropout_images
from eal_icnet_jax.layers.resizing import repeat_pixels, resize_bilinear
from eal_icnet_jax.layers.scanning import scan_blocks

__all__ = [
    "TSSA",
    "BNPReLU",
    "BatchNorm",
    "Conv",
    "ConvBN",
    "ConvBNPReLU",
    "ConvTranspose",
    "Counter",
    "KeylessRngs",
    "PReLU",
    "PositionAttention",
    "avg_pool_3x3",
    "batch_sharded_over",
    "dropout",
    "dropout_channels",
    "dropout_images",
    "fold_batch_norms",
    "layer_norm",
    "linear",
    "max_pool_2x2",
    "on_canvas",
    "pad_to_multiple",
    "reinitialize",
    "repeat_pixels",
    "resize_bilinear",
    "scan_blocks",
]
