"""ContextNet: a shallow branch at full resolution and a deep branch at a quarter of it.

Poudel et al., "ContextNet: Exploring Context and Detail for Semantic Segmentation in Real-time",
BMVC 2018. Wiring and PyTorch names follow ContextNet.py of https://github.com/chndaz/EAL-ICNet,
whose deep branch always takes one channel; here it takes all channels of the image.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import Conv, ConvBN, dropout, resize_bilinear
from eal_icnet_jax.models.network import Network

NO_PADDING = ((0, 0), (0, 0))

STAGES = ((32, 1, 1, 1), (32, 1, 6, 1), (48, 3, 6, 2), (64, 3, 6, 2), (96, 2, 6, 1), (128, 2, 6, 1))
"""Stages of the deep branch: channels, number of bottlenecks, expansion, stride of the first."""


class DepthwiseSeparable(nnx.Module):
    """A 3x3 depthwise convolution, then a 1x1 convolution.

    `[B, H, W, in]` to `[B, ceil(H / stride), ceil(W / stride), out]`.
    """

    def __init__(self, in_features: int, out_features: int, stride: int = 1, **options):
        self.depthwise = ConvBN(in_features, in_features, stride=stride, depthwise=True, **options)
        self.pointwise = ConvBN(in_features, out_features, (1, 1), **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.pointwise(self.depthwise(x))


class LinearBottleneck(nnx.Module):
    """Inverted bottleneck: a depthwise convolution on `expansion` times the channels.

    `[B, H, W, in]` to `[B, ceil(H / stride), ceil(W / stride), out]`. The input is added if it has
    the output's shape.
    """

    def __init__(self, in_features, out_features, expansion: int, stride: int, **options):
        wide = in_features * expansion
        self.expand = ConvBN(in_features, wide, (1, 1), **options)
        self.depthwise = ConvBN(wide, wide, stride=stride, depthwise=True, **options)
        self.project = ConvBN(wide, out_features, (1, 1), activation=None, **options)
        self.is_residual = stride == 1 and in_features == out_features

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


class SpatialDetail(nnx.Module):
    """The shallow branch: `[B, H, W, in]` to about `[B, H / 8, W / 8, 128]`."""

    def __init__(self, in_channels: int, **options):
        self.conv = ConvBN(in_channels, 32, stride=2, padding=NO_PADDING, **options)
        self.dsconv1 = DepthwiseSeparable(32, 64, 2, **options)
        self.dsconv2 = DepthwiseSeparable(64, 128, 2, **options)
        self.dsconv3 = DepthwiseSeparable(128, 128, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dsconv3(self.dsconv2(self.dsconv1(self.conv(x))))


class Context(nnx.Module):
    """The deep branch: `[B, H, W, in]` to about `[B, H / 8, W / 8, 128]`."""

    def __init__(self, in_channels: int, **options):
        self.conv = ConvBN(in_channels, 32, stride=2, padding=NO_PADDING, **options)
        self.stages = nnx.Dict()
        features = 32
        for k, (width, count, expansion, stride) in enumerate(STAGES, 1):
            first = LinearBottleneck(features, width, expansion, stride, **options)
            others = (
                LinearBottleneck(width, width, expansion, 1, **options) for _ in range(count - 1)
            )
            self.stages[f"bottleneck{k}"] = nnx.List([first, *others])
            features = width

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(x)
        for stage in self.stages.values():
            for bottleneck in stage:
                x = bottleneck(x)
        return x


class FeatureFusion(nnx.Module):
    """Sum of both branches at the shallow branch's size.

    `[B, H, W, features]` and `[B, h, w, features]` to `[B, H, W, features]`.
    """

    def __init__(self, features: int, **options):
        plain = {"use_bias": True, "activation": None, **options}
        self.dwconv = ConvBN(features, features, depthwise=True, **options)
        self.conv_lower_res = ConvBN(features, features, (1, 1), **plain)
        self.conv_higher_res = ConvBN(features, features, (1, 1), **plain)

    def __call__(self, detail: jax.Array, context: jax.Array) -> jax.Array:
        context = resize_bilinear(context, detail.shape[1:3], align_corners=True)
        context = self.conv_lower_res(self.dwconv(context))
        return jax.nn.relu(self.conv_higher_res(detail) + context)


class Classifier(nnx.Module):
    """Two depthwise separable convolutions, then a 1x1 convolution to logits.

    `[B, H, W, features]` to `[B, H, W, classes]`.
    """

    def __init__(self, features: int, classes: int, rate: float, *, dtype, rngs: nnx.Rngs):
        options = {"dtype": dtype, "rngs": rngs}
        self.dsconv1 = DepthwiseSeparable(features, features, **options)
        self.dsconv2 = DepthwiseSeparable(features, features, **options)
        self.dropout = dropout(rate, rngs)
        self.conv = Conv(features, classes, (1, 1), use_bias=True, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(self.dropout(self.dsconv2(self.dsconv1(x))))


class ContextNet(Network):
    """ContextNet.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      dropout: rate of dropout before the last convolution in training.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`, and stream `dropout` if that rate is not 0.
    """

    align_corners = True

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        dropout: float = 0.1,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.spatial_detail = SpatialDetail(in_channels, **options)
        self.context = Context(in_channels, **options)
        self.feature_fusion = FeatureFusion(128, **options)
        self.classifier = Classifier(128, classes, dropout, **options)
        self.dtype = dtype

    def forward(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits of about `[B, H / 8, W / 8, classes]`."""
        quarter = resize_bilinear(x, (x.shape[1] // 4, x.shape[2] // 4), align_corners=True)
        return self.classifier(self.feature_fusion(self.spatial_detail(x), self.context(quarter)))


Model = ContextNet

TORCH_NAMES = (
    (r"^context\.conv\.", "context_feature_extractor.conv_."),
    (r"^context\.stages\.", "context_feature_extractor."),
    (r"(bottleneck\d\.\d)\.expand\.", r"\1.block.0."),
    (r"(bottleneck\d\.\d)\.depthwise\.", r"\1.block.1."),
    (r"(bottleneck\d\.\d)\.project\.conv\.", r"\1.block.2."),
    (r"(bottleneck\d\.\d)\.project\.bn\.", r"\1.block.3."),
    (r"(block\.[01]|conv_|dwconv|spatial_detail\.conv)\.conv\.", r"\1.conv.0."),
    (r"(block\.[01]|conv_|dwconv|spatial_detail\.conv)\.bn\.", r"\1.conv.1."),
    (r"(conv_(?:lower|higher)_res)\.conv\.", r"\1.0."),
    (r"(conv_(?:lower|higher)_res)\.bn\.", r"\1.1."),
    (r"\.depthwise\.conv\.", ".conv.0."),
    (r"\.depthwise\.bn\.", ".conv.1."),
    (r"\.pointwise\.conv\.", ".conv.3."),
    (r"\.pointwise\.bn\.", ".conv.4."),
    (r"^classifier\.conv\.", "classifier.conv.1."),
)

CHANNELS_AT = {
    "in_channels": ("spatial_detail.conv.conv.0.weight", 1),
    "classes": ("classifier.conv.1.weight", 0),
}
