"""Two-dimensional convolutions with PyTorch's padding, dense or depthwise."""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers.initializers import bias_init, kernel_init
from eal_icnet_jax.layers.normalization import BNPReLU


def depthwise_conv(x: jax.Array, kernel: jax.Array, dilation: tuple[int, int]) -> jax.Array:
    """Depthwise convolution, stride 1, zero padding that keeps the size.

    Summing shifted, scaled slices is what XLA's CPU backend does well; its own grouped convolutions
    take over ten times as long there (benchmarks/depthwise.py; jax issue 26266 is about GPUs).

    Args:
      x: `[B, H, W, C]`.
      kernel: `[kh, kw, 1, C]`, kh and kw odd.
      dilation: of the kernel's rows and columns.

    Returns:
      `[B, H, W, C]`, what `jax.lax.conv_general_dilated` gives with `feature_group_count=C`.
    """
    kh, kw = kernel.shape[:2]
    height, width = x.shape[1:3]
    pad_h, pad_w = dilation[0] * (kh // 2), dilation[1] * (kw // 2)
    padded = jnp.pad(x, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0)))
    total = None
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            term = padded[:, top : top + height, left : left + width] * kernel[i, j, 0]
            total = term if total is None else total + term
    return total


class Conv(nnx.Module):
    """`torch.nn.Conv2d` on NHWC arrays, padded by `dilation * (kernel_size - 1) / 2` on each side.

    Args:
      in_features, out_features: channels.
      kernel_size: (rows, columns), odd.
      stride: of both axes.
      dilation: (rows, columns).
      depthwise: one filter a channel; needs `in_features == out_features` and stride 1.
      use_bias: adds a bias per output channel.
      dtype: of the computation; parameters are float32.
      rngs: the `params` stream initialises the kernel `[kh, kw, in, out]` (`[kh, kw, 1, out]` when
        depthwise) and the bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: tuple[int, int] = (3, 3),
        *,
        stride: int = 1,
        dilation: tuple[int, int] = (1, 1),
        depthwise: bool = False,
        use_bias: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if depthwise and (in_features != out_features or stride != 1):
            raise ValueError(
                "a depthwise Conv keeps its channels and has stride 1, but got "
                f"{in_features} -> {out_features} channels, stride {stride}"
            )
        shape = (*kernel_size, 1 if depthwise else in_features, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(bias_init(rngs.params(), shape)) if use_bias else None
        self.stride = stride
        self.dilation = tuple(dilation)
        self.depthwise = depthwise
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` to `[B, ceil(H / stride), ceil(W / stride), out]`."""
        x = x.astype(self.dtype)
        kernel = self.kernel[...].astype(self.dtype)
        if self.depthwise:
            y = depthwise_conv(x, kernel, self.dilation)
        else:
            pads = [
                (d * (k // 2),) * 2 for d, k in zip(self.dilation, kernel.shape[:2], strict=True)
            ]
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.stride, self.stride),
                padding=pads,
                rhs_dilation=self.dilation,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class ConvBNPReLU(nnx.Module):
    """A bias-free `Conv`, then `BNPReLU`. Arguments are those of `Conv`."""

    def __init__(self, in_features, out_features, kernel_size=(3, 3), *, dtype, rngs, **options):
        self.conv = Conv(in_features, out_features, kernel_size, dtype=dtype, rngs=rngs, **options)
        self.bn_prelu = BNPReLU(out_features, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.bn_prelu(self.conv(x))
