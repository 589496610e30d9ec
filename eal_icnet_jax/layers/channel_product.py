"""The product of every pixel's channels with a matrix, with a gradient that is fast on CPU."""

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers.plain_forms import takes_plain_forms


def channel_product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Compute `x @ matrix`.

    The gradient of the matrix is written as the product that it is, of channels with channels. JAX
    would exchange the two and transpose the result; XLA's CPU backend then copies one of them
    transposed and takes another matrix product, at a quarter of the rate (benchmarks/layers.py). It
    always copies the first factor, so that much narrower gradients come first after all.

    Args:
      x: `[..., in]`.
      matrix: `[in, out]`.

    Returns:
      `[..., out]`.
    """
    return x @ matrix if takes_plain_forms() else _channel_product(x, matrix)


@jax.custom_vjp
def _channel_product(x, matrix):
    return x @ matrix


def _forward(x, matrix):
    return x @ matrix, (x, matrix)


def _backward(arguments, gradient):
    x, matrix = arguments
    x_gradient = jnp.einsum("...o,io->...i", gradient, matrix)
    features, outputs = matrix.shape
    if 4 * outputs <= features:
        return x_gradient, jnp.einsum("...o,...i->oi", gradient, x).T
    return x_gradient, jnp.einsum("...i,...o->io", x, gradient)


_channel_product.defvjp(_forward, _backward)
