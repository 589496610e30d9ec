"""Two-dimensional convolutions with PyTorch's padding, dense or depthwise."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax.layers.frame import bounded
from eal_icnet_jax.layers.initializers import bias_init, kernel_init, uniform_init
from eal_icnet_jax.layers.normalization import Affine, BatchNorm, BNPReLU
from eal_icnet_jax.layers.sharing import sharing

WINDOWS = 1024
"""Windows laid out at once for a kernel's gradient: few enough to stay in a core's cache."""


Pads = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and after the rows, before and after the columns."""


def centred_pads(kernel_size: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Pads:
    """Those under which odd kernels of stride 1 keep the size."""
    return tuple((d * (k // 2),) * 2 for d, k in zip(dilation, kernel_size, strict=True))


@jax.named_scope("depthwise_conv")
def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    dilation: tuple[int, int] = (1, 1),
    stride: int = 1,
    pads: Pads | None = None,
) -> jax.Array:
    """Depthwise convolution.

    Summing shifted, scaled slices is what XLA's CPU backend does well; its own grouped convolutions
    take over ten times as long there (benchmarks/layers.py; jax issue 26266 is about GPUs).

    Args:
      x: `[B, H, W, C]`.
      kernel: `[kh, kw, 1, C]`.
      dilation: of the kernel's rows and columns.
      stride: of both axes.
      pads: zeros around the image, by default `centred_pads`.

    Returns:
      `[B, H', W', C]`, what `jax.lax.conv_general_dilated` gives with `feature_group_count=C`.
    """
    kh, kw = kernel.shape[:2]
    pads = centred_pads((kh, kw), dilation) if pads is None else pads
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = (
        (length - d * (k - 1) - 1) // stride + 1
        for length, d, k in zip(padded.shape[1:3], dilation, (kh, kw), strict=True)
    )
    total = None
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + stride * (height - 1) + 1, stride)
            columns = slice(left, left + stride * (width - 1) + 1, stride)
            term = padded[:, rows, columns] * kernel[i, j, 0]
            total = term if total is None else total + term
    return total


def direct_conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    dilation: tuple[int, int] = (1, 1),
    pads: Pads | None = None,
) -> jax.Array:
    """XLA's dense convolution, with zeros around the image, by default `centred_pads`.

    `[B, H, W, in]` and `[kh, kw, in, out]` to `[B, ceil(H / stride), ceil(W / stride), out]` with
    those.
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=centred_pads(kernel.shape[:2], dilation) if pads is None else pads,
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


def winograd_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution, stride 1, zero padding that keeps the size, as sixteen matrix products.

    F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016:
    4 products per output where the direct sum has 9.

    `[B, H, W, in]` and `[3, 3, in, out]` to `[B, H, W, out]`.
    """
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


def row_dilated_conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: tuple[int, int] = (1, 1)
) -> jax.Array:
    """`direct_conv` with the rows of image, kernel and steps all spread twice as far: equal sums.

    XLA's CPU backend has two convolutions and takes the slower one (by half at 32 and 64 channels)
    wherever it can; that one knows no spread images, so this form gets the faster.
    """
    (pad_h, _), (pad_w, _) = centred_pads(kernel.shape[:2], dilation)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(2 * stride, stride),
        padding=[(2 * pad_h,) * 2, (pad_w,) * 2],
        lhs_dilation=(2, 1),
        rhs_dilation=(2 * dilation[0], dilation[1]),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def kernel_gradient(
    x: jax.Array,
    gradient: jax.Array,
    kernel_size: tuple[int, int],
    stride: int = 1,
    dilation: tuple[int, int] = (1, 1),
) -> jax.Array:
    """The gradient of `direct_conv` with respect to its kernel, a block of rows at a time.

    A block's windows are laid out side by side and meet its gradients in one matrix product. XLA's
    own form, a convolution with a window of the whole image, takes up to three times as long on
    CPU, by its release. Where a batch is `shared_by` several devices, each adds up its own part and
    the parts are added at the end: else the devices would exchange every block.

    Args:
      x: `[B, H, W, in]`.
      gradient: of the output, `[B, ceil(H / stride), ceil(W / stride), out]`.

    Returns:
      `[*kernel_size, in, out]`.
    """

    def of_part(x, gradient):
        return _kernel_gradient(x, gradient, kernel_size, stride, dilation)

    parts = sharing()
    if parts == 1:
        return of_part(x, gradient)
    x, gradient = (a.reshape(parts, a.shape[0] // parts, *a.shape[1:]) for a in (x, gradient))
    return jax.vmap(of_part)(x, gradient).sum(0)


def _kernel_gradient(x, gradient, kernel_size, stride, dilation):
    (kh, kw), (dh, dw) = kernel_size, dilation
    batch, height, width, outputs = gradient.shape
    features = x.shape[-1]
    rows = min(height, max(1, WINDOWS // (batch * width)))
    blocks = -(-height // rows)
    gradient = jnp.pad(gradient, ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0)))
    top, left = dh * (kh // 2), dw * (kw // 2)
    below = stride * (blocks * rows - 1) + dh * (kh - 1) + 1 - x.shape[1] - top
    right = stride * (width - 1) + dw * (kw - 1) + 1 - x.shape[2] - left
    pads = ((0, 0, 0), (top, below, 0), (left, right, 0), (0, 0, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), pads)
    reach = stride * (rows - 1) + dh * (kh - 1) + 1

    def add_block(total, block):
        part = jax.lax.dynamic_slice_in_dim(x, block * rows * stride, reach, 1)
        windows = jnp.concatenate(
            [
                part[
                    :,
                    i * dh : i * dh + stride * (rows - 1) + 1 : stride,
                    j * dw : j * dw + stride * (width - 1) + 1 : stride,
                ]
                for i in range(kh)
                for j in range(kw)
            ],
            -1,
        )
        arriving = jax.lax.dynamic_slice_in_dim(gradient, block * rows, rows, 1)
        return total + jnp.tensordot(arriving, windows, ((0, 1, 2), (0, 1, 2))), None

    total = jnp.zeros((outputs, kh * kw * features), jnp.result_type(x, gradient))
    total, _ = jax.lax.scan(add_block, total, jnp.arange(blocks))
    return total.T.reshape(kh, kw, features, outputs)


def _flipped(kernel: jax.Array) -> jax.Array:
    """The kernel that carries gradients back through a convolution of stride 1."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _fastest_on_cpu(x: jax.Array, kernel: jax.Array, stride: int, dilation: tuple[int, int]):
    """The form to take, as measured on two cores with AVX-512 (benchmarks/layers.py).

    Winograd's pays where a product has much work for every value it reads, the spread rows where
    all values fit in the caches and the kernel has enough columns.
    """
    *size, features, outputs = kernel.shape
    values = x.size // features * (features + outputs)
    work = features * outputs / (features + outputs)
    is_plain_3x3 = (*size, stride, *dilation) == (3, 3, 1, 1, 1)
    if is_plain_3x3 and work >= (40 if values <= 2**20 else 100):
        return lambda x, kernel, stride, dilation: winograd_conv(x, kernel)
    return row_dilated_conv if outputs >= 24 and values <= 6 * 2**20 else direct_conv


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def cpu_conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: tuple[int, int] = (1, 1)
) -> jax.Array:
    """`direct_conv` by what is fastest on CPU, forward and backward.

    The forms differ by roundings, which batch statistics and PReLU's kink can carry into gradients
    beyond the 1e-3 that parity allows: a value that rounding moves across zero changes them by as
    much. So where gradients are taken, the forward pass keeps to what stays closest to PyTorch
    there: `row_dilated_conv` for wide 3x3 kernels, `direct_conv` for others. The backward pass is
    linear and takes the fastest.
    """
    return _fastest_on_cpu(x, kernel, stride, dilation)(x, kernel, stride, dilation)


def _cpu_conv_forward(x, kernel, stride, dilation):
    kh, kw, features, outputs = kernel.shape
    wide = features * outputs >= 64 * 32 and min(features, outputs) >= 32
    wide_3x3 = wide and (kh, kw, stride, *dilation) == (3, 3, 1, 1, 1)
    form = row_dilated_conv if wide_3x3 else direct_conv
    return form(x, kernel, stride, dilation), (x, kernel)


def _cpu_conv_backward(stride, dilation, arguments, gradient):
    x, kernel = arguments
    if stride == 1:
        to_x = cpu_conv(gradient, _flipped(kernel), 1, dilation)
    else:
        (to_x,) = jax.vjp(lambda x: direct_conv(x, kernel, stride, dilation), x)[1](gradient)
    return to_x, kernel_gradient(x, gradient, kernel.shape[:2], stride, dilation)


cpu_conv.defvjp(_cpu_conv_forward, _cpu_conv_backward)


def dense_conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: tuple[int, int] = (1, 1)
) -> jax.Array:
    """`direct_conv` by whatever is fastest (benchmarks/layers.py)."""
    if kernel.shape[:2] == (1, 1) and stride == 1:
        return x @ kernel[0, 0]
    if x.dtype != jnp.float32 or x.shape[-1] < 16:
        return direct_conv(x, kernel, stride, dilation)

    def on_cpu(x, kernel):
        return cpu_conv(x, kernel, stride, dilation)

    def elsewhere(x, kernel):
        return direct_conv(x, kernel, stride, dilation)

    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


class Conv(nnx.Module):
    """`torch.nn.Conv2d` on NHWC arrays, padded by `dilation * (kernel_size - 1) / 2` on each side.

    Args:
      in_features, out_features: channels.
      kernel_size: (rows, columns), odd.
      stride: of both axes.
      dilation: (rows, columns).
      pads: zeros around the image where it shall be others, ((above, below), (left, right)).
      depthwise: one filter a channel; needs `in_features == out_features`.
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
        pads: Pads | None = None,
        depthwise: bool = False,
        use_bias: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if depthwise and in_features != out_features:
            raise ValueError(
                f"a depthwise Conv keeps its channels, but got {in_features} -> {out_features}"
            )
        shape = (*kernel_size, 1 if depthwise else in_features, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(bias_init(rngs.params(), shape)) if use_bias else None
        self.stride = stride
        self.dilation = tuple(dilation)
        self.pads = pads
        self.depthwise = depthwise
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` to `[B, ceil(H / stride), ceil(W / stride), out]` by default."""
        x = x.astype(self.dtype)
        kernel = self.kernel[...].astype(self.dtype)
        if kernel.shape[:2] != (1, 1):
            x = bounded(x)
        if self.depthwise:
            y = depthwise_conv(x, kernel, self.dilation, self.stride, self.pads)
        elif self.pads is not None:
            y = direct_conv(x, kernel, self.stride, self.dilation, self.pads)
        else:
            y = dense_conv(x, kernel, self.stride, self.dilation)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class _Foldable(nnx.Module):
    """Something with a convolution `conv` that takes in the normalisation right after it."""

    def _take_in(self, affine: Affine):
        conv = self.conv
        kernel = np.asarray(conv.kernel[...])
        scale = np.asarray(affine.scale[...], np.float64)
        offset = np.asarray(affine.offset[...], np.float64)
        if conv.bias is not None:
            offset = offset + scale * np.asarray(conv.bias[...])
        conv.kernel = nnx.Param((kernel * scale).astype(kernel.dtype))
        conv.bias = nnx.data(nnx.Param(offset.astype(kernel.dtype)))


class ConvBNPReLU(_Foldable):
    """A bias-free `Conv`, then `BNPReLU`. Arguments are those of `Conv`."""

    def __init__(self, in_features, out_features, kernel_size=(3, 3), *, dtype, rngs, **options):
        self.conv = Conv(in_features, out_features, kernel_size, dtype=dtype, rngs=rngs, **options)
        self.bn_prelu = BNPReLU(out_features, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.bn_prelu(self.conv(x))

    def fold(self):
        """Takes the normalisation into the convolution, for evaluation."""
        self._take_in(self.bn_prelu.bn.folded())
        self.bn_prelu.bn = None


class ConvBN(_Foldable):
    """A `Conv`, bias-free by default, `BatchNorm`, and an activation.

    Args:
      activation: of the normalised values, ReLU by default; None for none.
      epsilon, momentum: of the normalisation.
      Others are those of `Conv`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: tuple[int, int] = (3, 3),
        *,
        activation: Callable[[jax.Array], jax.Array] | None = jax.nn.relu,
        epsilon: float = 1e-5,
        momentum: float = 0.1,
        dtype,
        rngs: nnx.Rngs,
        **options,
    ):
        self.conv = Conv(in_features, out_features, kernel_size, dtype=dtype, rngs=rngs, **options)
        self.bn = BatchNorm(out_features, epsilon=epsilon, momentum=momentum, dtype=dtype)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(x)
        x = x if self.bn is None else self.bn(x)
        return x if self.activation is None else self.activation(x)

    def fold(self):
        """Takes the normalisation into the convolution, for evaluation."""
        self._take_in(self.bn.folded())
        self.bn = None


def spread_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's transposed convolution, a convolution of the image spread by zeros.

    As `transposed_conv`.
    """
    pad = (1, kernel.shape[0] - 1)
    return jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=(pad, pad),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def transposed_conv_by_products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`spread_conv` as one matrix product of every pixel with all taps.

    Neighbours' products that fall on one pixel are added.
    """
    batch, height, width, _ = x.shape
    taps = jnp.einsum("bhwi,klio->bhwklo", x, kernel)
    if len(kernel) == 3:
        taps = _pairs(_pairs(taps, 3, 1), 4, 2)
    return taps.swapaxes(2, 3).reshape(batch, 2 * height, 2 * width, -1)


def _pairs(taps: jax.Array, axis: int, along: int) -> jax.Array:
    """The three taps on an axis to what falls on the two new pixels of each old one."""
    before, own, after = (jax.lax.index_in_dim(taps, k, axis, keepdims=False) for k in range(3))
    of_next = jax.lax.slice_in_dim(before, 1, None, axis=along)
    pads = [(0, int(k == along)) for k in range(before.ndim)]
    return jnp.stack([own, after + jnp.pad(of_next, pads)], axis)


@jax.custom_vjp
def transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2 that doubles the size.

    The products' gradients are matrix products again; those of XLA's convolution take many times as
    long on CPU (benchmarks/layers.py), while forward it is as fast.

    Args:
      x: `[B, H, W, in]`.
      kernel: `[k, k, in, out]`; its centre, for k = 3, or its first tap, for k = 2, falls on a
        pixel's own place among the new ones.

    Returns:
      `[B, 2 H, 2 W, out]`.
    """
    return spread_conv(x, kernel)


def _transposed_conv_forward(x, kernel):
    return spread_conv(x, kernel), (x, kernel)


def _transposed_conv_backward(arguments, gradient):
    def backward(form):
        return lambda gradient: jax.vjp(form, *arguments)[1](gradient)

    return jax.lax.platform_dependent(
        gradient, cpu=backward(transposed_conv_by_products), default=backward(spread_conv)
    )


transposed_conv.defvjp(_transposed_conv_forward, _transposed_conv_backward)


class ConvTranspose(nnx.Module):
    """`torch.nn.ConvTranspose2d` of stride 2 that doubles the size, with a bias.

    Kernels of 3x3 have padding 1 and output padding 1, kernels of 2x2 none.

    Args:
      in_features, out_features: channels.
      kernel_size: 2 or 3, of both axes.
      dtype: of the computation; parameters are float32.
      rngs: the `params` stream initialises the kernel `[k, k, in, out]` and the bias.
    """

    def __init__(self, in_features, out_features, kernel_size=3, *, dtype, rngs: nnx.Rngs):
        shape = (kernel_size, kernel_size, in_features, out_features)
        # PyTorch takes the second axis of its [in, out, k, k] for the fan-in, here too.
        fan_shape = (kernel_size, kernel_size, out_features, out_features)
        bound = 1 / np.sqrt(np.prod(fan_shape[:-1]))
        self.transposed_kernel = nnx.Param(uniform_init(rngs.params(), shape, bound))
        self.bias = nnx.Param(uniform_init(rngs.params(), shape[-1:], bound))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` to `[B, 2 H, 2 W, out]`."""
        kernel = self.transposed_kernel[...].astype(self.dtype)
        y = transposed_conv(x.astype(self.dtype), kernel)
        return y + self.bias[...].astype(self.dtype)


def fold_batch_norms(model: nnx.Module) -> nnx.Module:
    """A copy for evaluation in which no `BatchNorm` is left: equal but for roundings, and faster.

    Those of `ConvBNPReLU` and `ConvBN` become part of the convolution, the others one product and
    one sum.
    """
    model = nnx.clone(model)
    for _, module in list(nnx.iter_graph(model)):
        if isinstance(module, _Foldable):
            module.fold()
    for _, module in list(nnx.iter_graph(model)):
        if isinstance(module, nnx.Module):
            for name, child in list(vars(module).items()):
                if isinstance(child, BatchNorm):
                    setattr(module, name, child.folded())
    return model
