"""FCN: VGG-16, and transposed convolutions whose outputs are added to its pooled stages.

Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015. Wiring and PyTorch
names follow `FCNs` of https://github.com/bat67/pytorch-FCN-easiest-demo. The encoder's names are
those of torchvision's VGG-16 under `pretrained_net`.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import (
    BatchNorm,
    Conv,
    ConvTranspose,
    initializers,
    max_pool_2x2,
    reinitialize,
)
from eal_icnet_jax.models.network import Network

STAGES = (
    ((0, 64), (2, 64)),
    ((5, 128), (7, 128)),
    ((10, 256), (12, 256), (14, 256)),
    ((17, 512), (19, 512), (21, 512)),
    ((24, 512), (26, 512), (28, 512)),
)
"""Index in PyTorch's sequence and output channels of each convolution, by stage."""


class VGG16(nnx.Module):
    """The convolutions of VGG-16: `[B, H, W, in]` to features of five stages, H/2 to H/32.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    ICLR 2015.
    """

    def __init__(self, in_channels: int, *, dtype, rngs: nnx.Rngs):
        self.features = nnx.Dict()
        features = in_channels
        for stage in STAGES:
            for index, width in stage:
                conv = Conv(features, width, use_bias=True, dtype=dtype, rngs=rngs)
                self.features[f"conv_{index}"] = conv
                features = width
        kernel = initializers.variance_scaling(2, "fan_out", "normal")
        reinitialize(self, (Conv,), rngs, kernel=kernel, bias=initializers.zeros)

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        out = []
        for stage in STAGES:
            for index, _ in stage:
                x = jax.nn.relu(self.features[f"conv_{index}"](x))
            x = max_pool_2x2(x)
            out.append(x)
        return out


class FCN(Network):
    """FCN.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`.
    """

    multiple = 32

    def __init__(
        self, in_channels: int = 1, classes: int = 1, *, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.pretrained_net = VGG16(in_channels, **options)
        widths = (512, 512, 256, 128, 64, 32)
        self.deconv1, self.deconv2, self.deconv3, self.deconv4, self.deconv5 = (
            ConvTranspose(width, narrower, **options)
            for width, narrower in itertools.pairwise(widths)
        )
        self.bn1, self.bn2, self.bn3, self.bn4, self.bn5 = (
            BatchNorm(width, dtype=dtype) for width in widths[1:]
        )
        self.classifier = Conv(32, classes, (1, 1), use_bias=True, **options)
        self.dtype = dtype

    def forward(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits `[B, H, W, classes]`."""
        *skips, x = self.pretrained_net(x)
        for deconv, bn in (
            (self.deconv1, self.bn1),
            (self.deconv2, self.bn2),
            (self.deconv3, self.bn3),
            (self.deconv4, self.bn4),
        ):
            x = bn(jax.nn.relu(deconv(x))) + skips.pop()
        return self.classifier(self.bn5(jax.nn.relu(self.deconv5(x))))


Model = FCN

TORCH_NAMES = ((r"\.conv_(\d+)\.", r".\1."),)

CHANNELS_AT = {
    "in_channels": ("pretrained_net.features.0.weight", 1),
    "classes": ("classifier.weight", 0),
}

ENCODER = "pretrained_net."
"""Prefix under which weights of torchvision's VGG-16 belong among the PyTorch names."""
