"""HRNet: branches of four resolutions that run side by side and exchange features.

Sun et al., "High-Resolution Representations for Labeling Pixels and Regions", 2019. Wiring and
PyTorch names follow seg_hrnet.py of https://github.com/HRNet/HRNet-Semantic-Segmentation.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import (
    Conv,
    ConvBN,
    initializers,
    reinitialize,
    resize_bilinear,
    scan_blocks,
)
from eal_icnet_jax.models.network import Network

STEM, BOTTLENECKS, BLOCKS = 64, 4, 4
"""Channels of the stem, number of bottlenecks in stage 1, number of blocks in each branch."""

MODULES = {2: 1, 3: 4, 4: 3}
"""Number of modules by stage; stage n has n branches."""


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions with a residual connection.

    `[B, H, W, in]` to `[B, H, W, EXPANSION * features]`.
    """

    EXPANSION = 4

    def __init__(self, in_features: int, features: int, **options):
        wide = features * self.EXPANSION
        self.conv1 = ConvBN(in_features, features, (1, 1), **options)
        self.conv2 = ConvBN(features, features, **options)
        self.conv3 = ConvBN(features, wide, (1, 1), activation=None, **options)
        widens = in_features != wide
        self.downsample = (
            ConvBN(in_features, wide, (1, 1), activation=None, **options) if widens else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv3(self.conv2(self.conv1(x)))
        return jax.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions with a residual connection: `[B, H, W, features]` to the same shape."""

    def __init__(self, features: int, **options):
        self.conv1 = ConvBN(features, features, **options)
        self.conv2 = ConvBN(features, features, activation=None, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.conv2(self.conv1(x)) + x)


class HighResolutionModule(nnx.Module):
    """Basic blocks on each branch, then a sum of all branches at each branch's resolution.

    A list of features `[B, H / 2^k, W / 2^k, widths[k]]` to a list of the same shapes.

    Args:
      widths: channels of each branch, finest first.
      **options: `dtype` and `rngs`.
    """

    def __init__(self, widths: tuple[int, ...], **options):
        self.branches = nnx.List(
            [nnx.List([BasicBlock(width, **options) for _ in range(BLOCKS)]) for width in widths]
        )
        self.fuse_layers = nnx.Dict()
        for i, target in enumerate(widths):
            for j, source in enumerate(widths):
                if j > i:
                    fuse = ConvBN(source, target, (1, 1), activation=None, **options)
                elif j < i:
                    steps = [ConvBN(source, source, stride=2, **options) for _ in range(i - j - 1)]
                    last = ConvBN(source, target, stride=2, activation=None, **options)
                    fuse = nnx.List([*steps, last])
                else:
                    continue
                self.fuse_layers[f"to_{i}_from_{j}"] = fuse

    def _fuse(self, x: list[jax.Array], i: int, j: int) -> jax.Array:
        """Return the contribution of branch j to branch i."""
        if i == j:
            return x[j]
        fuse = self.fuse_layers[f"to_{i}_from_{j}"]
        if j > i:
            return resize_bilinear(fuse(x[j]), x[i].shape[1:3], align_corners=True)
        y = x[j]
        for conv in fuse:
            y = conv(y)
        return y

    def __call__(self, x: list[jax.Array]) -> list[jax.Array]:
        x = list(x)
        for k, branch in enumerate(self.branches):
            x[k] = scan_blocks(branch, x[k])
        return [jax.nn.relu(sum(self._fuse(x, i, j) for j in range(len(x)))) for i in range(len(x))]


class HRNet(Network):
    """HRNet; a subclass sets its width.

    Args:
      in_channels: channels of the image.
      classes: logits per pixel.
      dtype: dtype of the computation; parameters, statistics and returned logits are float32.
      rngs: stream `params`.
    """

    width: int
    """Channels of the finest branch; each coarser branch has twice as many."""

    align_corners = True

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        widths = tuple(self.width << k for k in range(4))
        self.conv1 = ConvBN(in_channels, STEM, stride=2, **options)
        self.conv2 = ConvBN(STEM, STEM, stride=2, **options)
        wide = STEM * Bottleneck.EXPANSION
        self.layer1 = nnx.List(
            [Bottleneck(STEM if k == 0 else wide, STEM, **options) for k in range(BOTTLENECKS)]
        )

        self.transition1 = nnx.Dict(
            branch_0=ConvBN(wide, widths[0], **options),
            branch_1=nnx.List([ConvBN(wide, widths[1], stride=2, **options)]),
        )
        self.transition2 = nnx.Dict(
            branch_2=nnx.List([ConvBN(widths[1], widths[2], stride=2, **options)])
        )
        self.transition3 = nnx.Dict(
            branch_3=nnx.List([ConvBN(widths[2], widths[3], stride=2, **options)])
        )
        self.stage2, self.stage3, self.stage4 = (
            nnx.List([HighResolutionModule(widths[:stage], **options) for _ in range(count)])
            for stage, count in MODULES.items()
        )
        self.last_layer = ConvBN(sum(widths), sum(widths), (1, 1), use_bias=True, **options)
        self.classifier = Conv(sum(widths), classes, (1, 1), use_bias=True, **options)
        self.dtype = dtype
        reinitialize(self, (Conv,), rngs, kernel=initializers.normal(0.001))

    def forward(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits `[B, ceil(H / 4), ceil(W / 4), classes]`."""
        x = self.conv2(self.conv1(x))
        widening, *equal_blocks = self.layer1
        x = scan_blocks(equal_blocks, widening(x))
        x = [self.transition1["branch_0"](x), self.transition1["branch_1"][0](x)]
        for module in self.stage2:
            x = module(x)
        x = [*x, self.transition2["branch_2"][0](x[-1])]
        for module in self.stage3:
            x = module(x)
        x = [*x, self.transition3["branch_3"][0](x[-1])]
        for module in self.stage4:
            x = module(x)
        size = x[0].shape[1:3]
        x = [x[0], *(resize_bilinear(coarse, size, align_corners=True) for coarse in x[1:])]
        return self.classifier(self.last_layer(jnp.concatenate(x, -1)))


TORCH_NAMES = (
    (r"\.to_(\d)_from_(\d)\.", r".\1.\2."),
    (r"\.branch_(\d)\.", r".\1."),
    (r"((?:fuse_layers|transition\d|downsample).*)\.conv\.", r"\1.0."),
    (r"((?:fuse_layers|transition\d|downsample).*)\.bn\.", r"\1.1."),
    (r"conv(\d)\.conv\.", r"conv\1."),
    (r"conv(\d)\.bn\.", r"bn\1."),
    (r"^last_layer\.conv\.", "last_layer.0."),
    (r"^last_layer\.bn\.", "last_layer.1."),
    (r"^classifier\.", "last_layer.3."),
)

CHANNELS_AT = {"in_channels": ("conv1.weight", 1), "classes": ("last_layer.3.weight", 0)}
