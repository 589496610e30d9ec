"""What the networks share: convolutions, normalisation, attention, pooling, resizing.

Every layer takes and returns NHWC arrays `[B, H, W, C]`, keeps its parameters in float32 and
computes in its `dtype`. Names, defaults and initialisation follow PyTorch, so that weights and
training carry over.
"""

from eal_icnet_jax.layers.attention import TSSA, PositionAttention
from eal_icnet_jax.layers.convolution import Conv, ConvBNPReLU, fold_batch_norms
from eal_icnet_jax.layers.frame import frame, frame_for
from eal_icnet_jax.layers.normalization import BatchNorm, BNPReLU, Counter, PReLU
from eal_icnet_jax.layers.pooling import avg_pool_3x3, max_pool_2x2
from eal_icnet_jax.layers.resizing import resize_bilinear

__all__ = [
    "TSSA",
    "BNPReLU",
    "BatchNorm",
    "Conv",
    "ConvBNPReLU",
    "Counter",
    "PReLU",
    "PositionAttention",
    "avg_pool_3x3",
    "fold_batch_norms",
    "frame",
    "frame_for",
    "max_pool_2x2",
    "resize_bilinear",
]
