"""Dense convolutions: XLA's, faster forms for CPU, and the choice between them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from eal_icnet_jax.layers.batch_sharding import batch_shards
from eal_icnet_jax.layers.channel_product import channel_product
from eal_icnet_jax.layers.padding import Padding, centred_padding
from eal_icnet_jax.layers.plain_forms import takes_plain_forms
from eal_icnet_jax.layers.transposed_convolution import matmul_transposed_conv

PATCHES_PER_BLOCK = 1024
"""Number of image patches that `kernel_gradient` lays out at once: they fit in a core's cache."""

SMALL_PATCH = 512
"""Values of an image patch up to which twice as many are laid out: two cores share the product."""

WIDE_PATCH = 1024
"""Values of an image patch from which `kernel_gradient` lays out only the patches' rows."""


def direct_conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    dilation: tuple[int, int] = (1, 1),
    padding: Padding | None = None,
    groups: int = 1,
) -> jax.Array:
    """Convolve with XLA's own convolution.

    Args:
      x: `[B, H, W, in]`.
      kernel: `[kh, kw, in / groups, out]`.
      stride: stride of both axes.
      dilation: (rows, columns) of the kernel.
      padding: zeros around the image, by default `centred_padding`.
      groups: number of groups into which the channels fall; each group has kernels of its own.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), out]` with the default padding.
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=centred_padding(kernel.shape[:2], dilation) if padding is None else padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _transform_input(v):
    """Winograd's input transform of four neighbours."""
    return v[0] - v[2], v[1] + v[2], v[2] - v[1], v[1] - v[3]


def _transform_kernel(v):
    """Winograd's kernel transform of three taps."""
    return v[0], (v[0] + v[1] + v[2]) / 2, (v[0] - v[1] + v[2]) / 2, v[2]


REVERSED = 3, 1, 2, 0
"""Where the parts of `_transform_kernel` are in the transform of the reversed taps."""


def _transform_output(v):
    """Winograd's output transform: four products to two neighbours."""
    return v[0] + v[1] + v[2], v[1] - v[2] - v[3]


def _transform_both_axes(transform, grid):
    """Apply a transform to the columns and then to the rows of a grid of arrays."""
    columns = [transform(column) for column in zip(*grid, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


def winograd_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve with a 3x3 kernel, stride 1 and centred padding by sixteen matrix products.

    F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016:
    4 products per output value instead of the 9 of the direct sum.

    Args:
      x: `[B, H, W, in]`.
      kernel: `[3, 3, in, out]`.

    Returns:
      `[B, H, W, out]`.
    """
    taps = _transform_both_axes(_transform_kernel, kernel)
    return _winograd(x, lambda part, i, j: part @ taps[i][j])


def winograd_image_gradient(gradient: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the gradient of `winograd_conv` with respect to its image.

    It is the convolution with the kernel reversed and its channels exchanged. The transform of the
    kernel as it is serves for that: reading a wide kernel with its channels exchanged takes longer
    than the products.

    Args:
      gradient: of the output, `[B, H, W, out]`.
      kernel: `[3, 3, in, out]`.

    Returns:
      `[B, H, W, in]`.
    """
    taps = _transform_both_axes(_transform_kernel, kernel)
    reversed_taps = [[taps[i][j] for j in REVERSED] for i in REVERSED]
    return _winograd(
        gradient, lambda part, i, j: jnp.einsum("bhwo,fo->bhwf", part, reversed_taps[i][j])
    )


def _winograd(x: jax.Array, multiply: Callable[[jax.Array, int, int], jax.Array]) -> jax.Array:
    """Return an image `[B, H, W, out]` by Winograd's transforms.

    Args:
      x: `[B, H, W, in]`.
      multiply: takes the part (i, j) of the transformed tiles of 4x4 pixels, `[B, rows, columns,
        in]`, and returns its product with the kernel's, `[B, rows, columns, out]`.
    """
    batch, height, width, features = x.shape
    rows, columns = -(-height // 2), -(-width // 2)
    padding = ((0, 0), (1, 2 * rows - height + 1), (1, 2 * columns - width + 1), (0, 0))
    padded = jnp.pad(x, padding).reshape(batch, rows + 1, 2, columns + 1, 2, features)

    def pixels(i, j):
        """Pixel (i, j) of all 4x4 tiles, which lie 2 pixels apart."""
        top, left = i // 2, j // 2
        return padded[:, top : top + rows, i % 2, left : left + columns, j % 2]

    tiles = [[pixels(i, j) for j in range(4)] for i in range(4)]
    inputs = _transform_both_axes(_transform_input, tiles)
    products = [[multiply(inputs[i][j], i, j) for j in range(4)] for i in range(4)]
    out = _transform_both_axes(_transform_output, products)
    out = jnp.stack([jnp.stack(row, 3) for row in out], 2)
    return out.reshape(batch, 2 * rows, 2 * columns, -1)[:, :height, :width]


LINE_TILE = 4
"""Neighbours along a line that `line_conv` computes together."""

LINE_POINTS = 0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5
"""Numbers at which `line_conv` evaluates polynomials, besides infinity."""


@functools.lru_cache
def _line_transforms(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Winograd's transforms of output, kernel and input along a line.

    With n = `LINE_TILE` + taps - 1 products, they are `[LINE_TILE, n]`, `[n, taps]` and `[n, n]`. A
    correlation is the transpose of a product of polynomials: both are evaluated at n points, and
    the product is interpolated.
    """
    products = LINE_TILE + taps - 1

    def powers(count: int) -> np.ndarray:
        finite = np.vander(LINE_POINTS[: products - 1], count, increasing=True)
        return np.vstack([finite, np.eye(1, count, count - 1)])

    interpolation = np.linalg.inv(powers(products)).T.round(12)
    scale = [[1 / np.abs(row[row != 0]).min()] for row in interpolation]  # so that most are 1
    return powers(LINE_TILE).T, powers(taps) / scale, interpolation * scale


def _weighted_sum(weights: np.ndarray, arrays: list[jax.Array]) -> jax.Array:
    terms = zip(weights, arrays, strict=True)
    return sum(
        array if weight == 1 else np.float32(weight) * array for weight, array in terms if weight
    )


def line_conv(x: jax.Array, kernel: jax.Array, dilation: tuple[int, int] = (1, 1)) -> jax.Array:
    """Convolve with a kernel of one row or one column, stride 1 and centred padding.

    F(4, 3) and F(4, 5) of Winograd, see `winograd_conv`: 6 or 8 products for 4 output values
    instead of 12 or 20. Rounding errors are up to five times those of the direct sum.

    Args:
      x: `[B, H, W, in]`.
      kernel: `[taps, 1, in, out]` or `[1, taps, in, out]`, of 3 or 5 taps.
      dilation: (rows, columns) of the kernel.

    Returns:
      `[B, H, W, out]`.
    """
    axis = 1 if kernel.shape[1] == 1 else 2
    taps, step, length = kernel.shape[axis - 1], dilation[axis - 1], x.shape[axis]
    to_output, of_kernel, of_input = _line_transforms(taps)
    tiles = -(-length // (LINE_TILE * step))
    blocks = tiles + -(-(taps - 1) // LINE_TILE)
    before = step * (taps // 2)
    margins = [(0, 0)] * 4
    margins[axis] = before, blocks * LINE_TILE * step - length - before
    padded = jnp.pad(x, margins)
    padded = padded.reshape(*x.shape[:axis], blocks, LINE_TILE, step, *x.shape[axis + 1 :])

    def pixels(place: int) -> jax.Array:
        """Pixel `place` of all tiles, for each of the `step` lines that lie between one another."""
        block, place = divmod(place, LINE_TILE)
        part = jax.lax.slice_in_dim(padded, block, block + tiles, axis=axis)
        return jax.lax.index_in_dim(part, place, axis + 1, keepdims=False)

    inputs = [pixels(place) for place in range(len(of_input))]
    weights = list(kernel.reshape(taps, *kernel.shape[2:]))
    products = [
        _weighted_sum(of_input[k], inputs) @ _weighted_sum(of_kernel[k], weights)
        for k in range(len(of_input))
    ]
    out = jnp.stack([_weighted_sum(row, products) for row in to_output], axis + 1)
    out = out.reshape(*x.shape[:axis], tiles * LINE_TILE * step, *out.shape[axis + 3 :])
    return jax.lax.slice_in_dim(out, 0, length, axis=axis)


def row_dilated_conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: tuple[int, int] = (1, 1)
) -> jax.Array:
    """Compute `direct_conv` with the rows of image, kernel and stride all dilated by two.

    The sums are the same. XLA's CPU backend has two convolutions and prefers the slower one (by
    half at 32 and 64 channels). That one does not support dilated images, so this form gets the
    faster one.
    """
    (pad_h, _), (pad_w, _) = centred_padding(kernel.shape[:2], dilation)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(2 * stride, stride),
        padding=[(2 * pad_h,) * 2, (pad_w,) * 2],
        lhs_dilation=(2, 1),
        rhs_dilation=(2 * dilation[0], dilation[1]),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


SHARED_ROW = 2**14
"""Values of an image's row from which XLA's CPU convolution shares its work between two cores."""


def strip_conv(x: jax.Array, kernel: jax.Array, strips: int) -> jax.Array:
    """Compute `direct_conv` with a 3x3 kernel on strips of the image that lie side by side.

    XLA's CPU convolution divides each row of the image among the cores, in parts whose patches fit
    in a core's cache. Narrow images are one part, so that one core does all the work. The strips,
    each with a row of its neighbours above and below, make a wide image. The results are the same
    to the bit: unlike other forms, this one may serve the forward pass of training.

    Args:
      x: `[B, H, W, in]`.
      kernel: `[3, 3, in, out]`.
      strips: number of parts into which the rows are divided.

    Returns:
      `[B, H, W, out]`.
    """
    height, width = x.shape[1:3]
    rows = -(-height // strips)
    padded = jnp.pad(x, ((0, 0), (1, strips * rows - height + 1), (0, 1), (0, 0)))
    places = range(strips)
    wide = jnp.concatenate([padded[:, i * rows : (i + 1) * rows + 2] for i in places], 2)
    wide = direct_conv(wide, kernel, padding=((0, 0), (1, 0)))
    parts = [wide[:, :, i * (width + 1) : i * (width + 1) + width] for i in places]
    return jnp.concatenate(parts, 1)[:, :height]


def _strip_count(x: jax.Array, kernel: jax.Array, stride: int, dilation: tuple[int, int]) -> int:
    """Return into how many strips `strip_conv` best divides an image, 1 where it is no faster.

    With more than 32 outputs, XLA may share the outputs between the cores instead; up to 16, strips
    gain nothing.
    """
    height, width, features = x.shape[1:]
    strips = 1  # powers of two: between them, the parts of a row are uneven
    while strips * width * features < SHARED_ROW:
        strips *= 2
    is_plain_3x3 = (*kernel.shape[:2], stride, *dilation) == (3, 3, 1, 1, 1)
    return strips if is_plain_3x3 and 16 < kernel.shape[3] <= 32 and height >= 16 * strips else 1


def shared_conv(
    x: jax.Array, kernel: jax.Array, stride: int, dilation: tuple[int, int]
) -> jax.Array:
    """Compute `direct_conv` with the same sums, by `strip_conv` where that is faster.

    Args:
      x: `[B, H, W, in]`.
      kernel: `[kh, kw, in, out]`.
      stride: stride of both axes.
      dilation: (rows, columns) of the kernel.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), out]`.
    """
    strips = _strip_count(x, kernel, stride, dilation)
    if strips == 1:
        return direct_conv(x, kernel, stride, dilation)
    return strip_conv(x, kernel, strips)


def kernel_gradient(
    x: jax.Array,
    gradient: jax.Array,
    kernel_size: tuple[int, int],
    stride: int = 1,
    dilation: tuple[int, int] = (1, 1),
    shards: int = 1,
) -> jax.Array:
    """Return the gradient of `direct_conv` with respect to its kernel.

    Works on one block of rows at a time: the block's image patches are laid out side by side and
    multiplied with its output gradients in one matrix product. XLA's own form, a convolution with a
    window as large as the image, takes up to three times as long on CPU, depending on the release.
    Wide patches would leave the caches. Only one row of each is laid out then, and multiplied with
    the output gradients of all rows that it contributes to. If several devices share the batch,
    every shard sums up its own part and the parts are added at the end; otherwise the devices would
    exchange data for every block.

    Args:
      x: input of the convolution, `[B, H, W, in]`.
      gradient: gradient of its output, `[B, ceil(H / stride), ceil(W / stride), out]`.
      kernel_size: (kh, kw).
      stride: stride of both axes.
      dilation: (rows, columns) of the kernel.
      shards: number of devices that share the batch.

    Returns:
      `[kh, kw, in, out]`.
    """
    is_wide = stride == 1 and kernel_size[0] * kernel_size[1] * x.shape[-1] >= WIDE_PATCH

    def shard_gradient(x, gradient):
        if is_wide:
            return _gradient_of_wide_patches(x, gradient, kernel_size, dilation)
        return _gradient_of_patches(x, gradient, kernel_size, stride, dilation)

    if shards == 1:
        return shard_gradient(x, gradient)
    x, gradient = (a.reshape(shards, a.shape[0] // shards, *a.shape[1:]) for a in (x, gradient))
    return jax.vmap(shard_gradient)(x, gradient).sum(0)


def _gradient_of_patches(x, gradient, kernel_size, stride, dilation):
    (kh, kw), (dh, dw) = kernel_size, dilation
    batch, height, width, outputs = gradient.shape
    features = x.shape[-1]
    patches = PATCHES_PER_BLOCK * (2 if kh * kw * features <= SMALL_PATCH else 1)
    rows = min(height, max(1, patches // (batch * width)))
    blocks = -(-height // rows)
    gradient = jnp.pad(gradient, ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0)))
    top, left = dh * (kh // 2), dw * (kw // 2)
    below = stride * (blocks * rows - 1) + dh * (kh - 1) + 1 - x.shape[1] - top
    right = stride * (width - 1) + dw * (kw - 1) + 1 - x.shape[2] - left
    padding = ((0, 0, 0), (top, below, 0), (left, right, 0), (0, 0, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), padding)
    input_rows = stride * (rows - 1) + dh * (kh - 1) + 1

    def add_block(total, block):
        strip = jax.lax.dynamic_slice_in_dim(x, block * rows * stride, input_rows, 1)
        patches = jnp.concatenate(
            [
                strip[
                    :,
                    i * dh : i * dh + stride * (rows - 1) + 1 : stride,
                    j * dw : j * dw + stride * (width - 1) + 1 : stride,
                ]
                for i in range(kh)
                for j in range(kw)
            ],
            -1,
        )
        block_gradient = jax.lax.dynamic_slice_in_dim(gradient, block * rows, rows, 1)
        return total + jnp.tensordot(block_gradient, patches, ((0, 1, 2), (0, 1, 2))), None

    total = jnp.zeros((outputs, kh * kw * features), jnp.result_type(x, gradient))
    total, _ = jax.lax.scan(add_block, total, jnp.arange(blocks))
    return total.T.reshape(kh, kw, features, outputs)


def _gradient_of_wide_patches(x, gradient, kernel_size, dilation):
    (kh, kw), (dh, dw) = kernel_size, dilation
    batch, height, width, features = x.shape
    outputs = gradient.shape[-1]
    rows = min(height, max(1, PATCHES_PER_BLOCK // (batch * width)))
    blocks = -(-height // rows)
    below, left, reach = blocks * rows - height, dw * (kw // 2), dh * (kh - 1)
    top = reach - dh * (kh // 2)
    x = jnp.pad(x, ((0, 0), (0, below), (left, dw * (kw - 1) - left), (0, 0)))
    gradient = jnp.pad(gradient, ((0, 0), (top, below + reach - top), (0, 0), (0, 0)))

    def add_block(total, block):
        strip = jax.lax.dynamic_slice_in_dim(x, block * rows, rows, 1)
        windows = [strip[:, :, j * dw : j * dw + width] for j in range(kw)]
        strip = jax.lax.dynamic_slice_in_dim(gradient, block * rows, rows + reach, 1)
        shifted = [strip[:, i : i + rows] for i in range(reach, -1, -dh)]
        windows, shifted = jnp.concatenate(windows, -1), jnp.concatenate(shifted, -1)
        return total + jnp.tensordot(shifted, windows, ((0, 1, 2), (0, 1, 2))), None

    total = jnp.zeros((kh * outputs, kw * features), jnp.result_type(x, gradient))
    total, _ = jax.lax.scan(add_block, total, jnp.arange(blocks))
    return total.reshape(kh, outputs, kw, features).transpose(0, 2, 3, 1)


def _transposed(kernel: jax.Array) -> jax.Array:
    """Return the kernel that carries gradients back through a convolution of stride 1."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _value_count(x: jax.Array, kernel: jax.Array, stride: int = 1) -> int:
    """Return how many values an image and the convolution's output have."""
    features, outputs = kernel.shape[2:]
    return x.size + x.size // features * outputs // stride**2


def _suits_winograd(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    dilation: tuple[int, int],
    for_gradient: bool = False,
) -> bool:
    """Return whether Winograd's form is the fastest on two cores.

    It pays off if the matrix products do much work per value that they read (benchmarks/layers.py),
    which is the same for the image gradient. Outside of gradients, they need less of it if they are
    large enough to be shared by the cores and all values fit in the caches.
    """
    *size, features, outputs = kernel.shape
    work_per_value = features * outputs / (features + outputs)
    is_plain_3x3 = (*size, stride, *dilation) == (3, 3, 1, 1, 1)
    values = _value_count(x, kernel)
    least = 40 if values <= 2**20 else 100
    if 2**20 <= values <= 2**21 and not for_gradient:
        least = 16
    return is_plain_3x3 and work_per_value >= least


def _suits_line_conv(x: jax.Array, kernel: jax.Array, stride: int, dilation: tuple[int, int]):
    """Return whether `line_conv` is the fastest form: wide kernels, whole tiles of the image.

    Kernels of three taps need fewer channels for that where the images do not fit in the caches.
    """
    rows, columns, features, outputs = kernel.shape
    if min(rows, columns) != 1 or stride != 1 or rows * columns not in (3, 5):
        return False
    axis = 1 if columns == 1 else 2
    least = 64 if rows * columns == 5 else 40 if _value_count(x, kernel) >= 2**20 else 128
    is_wide = min(features, outputs) >= least
    return is_wide and x.shape[axis] % (LINE_TILE * dilation[axis - 1]) == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def cpu_conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    dilation: tuple[int, int] = (1, 1),
    shards: int = 1,
) -> jax.Array:
    """Compute `direct_conv` by the forms that are fastest on CPU, forward and backward.

    The forms differ by rounding. A value that rounding moves across zero changes the gradients of
    batch statistics and PReLU by more than the 1e-3 that parity with PyTorch allows. So when
    gradients are taken, the forward pass uses the form that stays closest to PyTorch:
    `row_dilated_conv` for wide 3x3 kernels, `shared_conv` for all others. The backward pass is
    linear and always uses the fastest form.

    Args:
      x: `[B, H, W, in]`.
      kernel: `[kh, kw, in, out]`.
      stride: stride of both axes.
      dilation: (rows, columns) of the kernel.
      shards: of the batch, for `kernel_gradient`.
    """
    return _fastest_conv(x, kernel, stride, dilation)


def _fastest_conv(x, kernel, stride, dilation, for_gradient=False):
    """Compute `direct_conv` by the form that is fastest on CPU."""
    if _suits_winograd(x, kernel, stride, dilation, for_gradient):
        return winograd_conv(x, kernel)
    if _suits_line_conv(x, kernel, stride, dilation):
        return line_conv(x, kernel, dilation)
    # Spread rows pay off if all values fit in the caches and the kernel has enough outputs.
    is_small = _value_count(x, kernel, stride) <= 6 * 2**20
    form = row_dilated_conv if kernel.shape[3] >= 24 and is_small else shared_conv
    return form(x, kernel, stride, dilation)


def _cpu_conv_forward(x, kernel, stride, dilation, _shards):
    kh, kw, features, outputs = kernel.shape
    is_wide = features * outputs >= 64 * 32 and min(features, outputs) >= 32
    is_wide_3x3 = is_wide and (kh, kw, stride, *dilation) == (3, 3, 1, 1, 1)
    form = row_dilated_conv if is_wide_3x3 else shared_conv
    return form(x, kernel, stride, dilation), (x, kernel)


def _cpu_conv_backward(stride, dilation, shards, arguments, gradient):
    x, kernel = arguments
    if _suits_winograd(x, kernel, stride, dilation, for_gradient=True):
        x_gradient = winograd_image_gradient(gradient, kernel)
    elif stride == 1:
        x_gradient = _fastest_conv(gradient, _transposed(kernel), 1, dilation, for_gradient=True)
    elif (*kernel.shape[:2], stride, *dilation) == (3, 3, 2, 1, 1):
        doubled = matmul_transposed_conv(gradient, kernel.swapaxes(2, 3))
        x_gradient = doubled[:, : x.shape[1], : x.shape[2]]
    else:
        (x_gradient,) = jax.vjp(lambda x: direct_conv(x, kernel, stride, dilation), x)[1](gradient)
    return x_gradient, kernel_gradient(x, gradient, kernel.shape[:2], stride, dilation, shards)


cpu_conv.defvjp(_cpu_conv_forward, _cpu_conv_backward)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _conv_by_platform(x, kernel, stride, dilation, shards):
    """Compute `direct_conv`. Compiled by itself so that equal layers are traced once."""

    def on_cpu(x, kernel):
        return cpu_conv(x, kernel, stride, dilation, shards)

    def on_accelerator(x, kernel):
        return direct_conv(x, kernel, stride, dilation)

    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=on_accelerator)


def dense_conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: tuple[int, int] = (1, 1)
) -> jax.Array:
    """Compute `direct_conv` with centred padding by the fastest form on each platform."""
    if kernel.shape[:2] == (1, 1) and stride == 1:
        return channel_product(x, kernel[0, 0])
    if x.dtype != jnp.float32 or x.shape[-1] < 16 or takes_plain_forms():
        return direct_conv(x, kernel, stride, dilation)
    return _conv_by_platform(x, kernel, stride, tuple(dilation), batch_shards())
