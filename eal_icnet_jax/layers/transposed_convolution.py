"""Transposed convolution of stride 2, with gradients that are fast on CPU."""

import jax
import jax.numpy as jnp


def direct_transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute `transposed_conv` as XLA does: a convolution of the image interleaved with zeros."""
    padding = (1, kernel.shape[0] - 1)
    return jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=(padding, padding),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def matmul_transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute `transposed_conv` as one matrix product of all pixels with all taps of the kernel.

    Products of neighbouring pixels that fall on the same output pixel are added.
    """
    batch, height, width, _ = x.shape
    products = jnp.einsum("bhwi,klio->bhwklo", x, kernel)
    if len(kernel) == 3:
        products = _merge_taps(_merge_taps(products, 3, 1), 4, 2)
    return products.swapaxes(2, 3).reshape(batch, 2 * height, 2 * width, -1)


def _merge_taps(products: jax.Array, tap_axis: int, pixel_axis: int) -> jax.Array:
    """Reduce the three taps on one axis to the two output pixels of each input pixel."""
    before, own, after = (
        jax.lax.index_in_dim(products, k, tap_axis, keepdims=False) for k in range(3)
    )
    # The first tap of the next pixel falls on the second output pixel of this one.
    from_next = jax.lax.slice_in_dim(before, 1, None, axis=pixel_axis)
    padding = [(0, int(k == pixel_axis)) for k in range(before.ndim)]
    return jnp.stack([own, after + jnp.pad(from_next, padding)], tap_axis)


@jax.custom_vjp
def transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Apply a transposed convolution of stride 2 that doubles height and width.

    The forward pass is XLA's. The gradients on CPU are those of `matmul_transposed_conv`, matrix
    products again: the gradients of XLA's convolution take many times as long there
    (benchmarks/layers.py).

    Args:
      x: `[B, H, W, in]`.
      kernel: `[k, k, in, out]` with k = 2 or 3. For k = 3 its centre, and for k = 2 its first tap,
        falls on the output pixel (2 i, 2 j) of input pixel (i, j).

    Returns:
      `[B, 2 H, 2 W, out]`.
    """
    return direct_transposed_conv(x, kernel)


def _transposed_conv_forward(x, kernel):
    return direct_transposed_conv(x, kernel), (x, kernel)


def _transposed_conv_backward(arguments, gradient):
    def backward(form):
        return lambda gradient: jax.vjp(form, *arguments)[1](gradient)

    return jax.lax.platform_dependent(
        gradient, cpu=backward(matmul_transposed_conv), default=backward(direct_transposed_conv)
    )


transposed_conv.defvjp(_transposed_conv_forward, _transposed_conv_backward)
