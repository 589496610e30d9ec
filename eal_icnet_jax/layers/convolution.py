"""Two-dimensional convolutions with PyTorch's padding, dense or depthwise."""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers.initializers import bias_init, kernel_init
from eal_icnet_jax.layers.normalization import BNPReLU


def depthwise_conv(x: jax.Array, kernel: jax.Array, dilation: tuple[int, int]) -> jax.Array:
    """Depthwise convolution, stride 1, zero padding that keeps the size.

    Summing shifted, scaled slices is what XLA's CPU backend does well; its own grouped convolutions
    take over ten times as long there (benchmarks/layers.py; jax issue 26266 is about GPUs).

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


def direct_conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: tuple[int, int] = (1, 1)
) -> jax.Array:
    """XLA's dense convolution, zero padding of `dilation * (kernel_size - 1) / 2` on each side.

    `[B, H, W, in]` and `[kh, kw, in, out]` to `[B, ceil(H / stride), ceil(W / stride), out]`.
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[(d * (k // 2),) * 2 for d, k in zip(dilation, kernel.shape[:2], strict=True)],
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _to_frequencies(v):
    """The rows of Winograd's input transform on four neighbours."""
    return v[0] - v[2], v[1] + v[2], v[2] - v[1], v[1] - v[3]


def _kernel_frequencies(v):
    """The rows of its kernel transform on three taps."""
    return v[0], (v[0] + v[1] + v[2]) / 2, (v[0] - v[1] + v[2]) / 2, v[2]


def _from_frequencies(v):
    """The rows of its output transform: two neighbours."""
    return v[0] + v[1] + v[2], v[1] - v[2] - v[3]


def _both_axes(transform, grid):
    """A transform along the columns and then the rows of a grid of arrays."""
    columns = [transform(column) for column in zip(*grid, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


def _winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, features = x.shape
    rows, columns = -(-height // 2), -(-width // 2)
    pads = ((0, 0), (1, 2 * rows - height + 1), (1, 2 * columns - width + 1), (0, 0))
    padded = jnp.pad(x, pads).reshape(batch, rows + 1, 2, columns + 1, 2, features)

    def pixels(i, j):
        """Pixel (i, j) of every 4x4 tile, tiles 2 apart."""
        top, left = i // 2, j // 2
        return padded[:, top : top + rows, i % 2, left : left + columns, j % 2]

    inputs = _both_axes(_to_frequencies, [[pixels(i, j) for j in range(4)] for i in range(4)])
    taps = _both_axes(_kernel_frequencies, kernel)
    products = [[inputs[i][j] @ taps[i][j] for j in range(4)] for i in range(4)]
    out = _both_axes(_from_frequencies, products)
    out = jnp.stack([jnp.stack(row, 3) for row in out], 2)
    return out.reshape(batch, 2 * rows, 2 * columns, -1)[:, :height, :width]


@jax.custom_vjp
def winograd_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution, stride 1, zero padding that keeps the size, as sixteen matrix products.

    F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016:
    4 products per output where the direct sum has 9. In float32 it differs from that by a few
    roundings, which batch statistics and PReLU's kink can carry into gradients beyond the 1e-3 that
    parity allows; so where gradients are taken the forward pass is `direct_conv`, and only the
    backward pass, which is linear, takes this form. It keeps the arguments for that, not their
    transforms, which are four times as large.

    `[B, H, W, in]` and `[3, 3, in, out]` to `[B, H, W, out]`.
    """
    return _winograd(x, kernel)


def _winograd_forward(x, kernel):
    return direct_conv(x, kernel), (x, kernel)


def _winograd_backward(arguments, gradient):
    x, kernel = arguments
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    (to_kernel,) = jax.vjp(lambda k: _winograd(x, k), kernel)[1](gradient)
    return _winograd(gradient, flipped), to_kernel


winograd_conv.defvjp(_winograd_forward, _winograd_backward)


def conv_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`direct_conv` of a 3x3 kernel, by whatever is fastest (benchmarks/layers.py).

    XLA's CPU convolution reaches half the rate of its matrix product, so that from 64 to 32
    channels up Winograd's form is faster there, forward and backward.
    """
    features, outputs = kernel.shape[2:]
    wide = features * outputs >= 64 * 32 and min(features, outputs) >= 32
    if not wide or x.dtype not in (jnp.float32, jnp.float64):
        return direct_conv(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=winograd_conv, default=direct_conv)


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
        elif (kernel.shape[:2], self.stride, self.dilation) == ((3, 3), 1, (1, 1)):
            y = conv_3x3(x, kernel)
        else:
            y = direct_conv(x, kernel, self.stride, self.dilation)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class ConvBNPReLU(nnx.Module):
    """A bias-free `Conv`, then `BNPReLU`. Arguments are those of `Conv`."""

    def __init__(self, in_features, out_features, kernel_size=(3, 3), *, dtype, rngs, **options):
        self.conv = Conv(in_features, out_features, kernel_size, dtype=dtype, rngs=rngs, **options)
        self.bn_prelu = BNPReLU(out_features, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.bn_prelu(self.conv(x))
