"""PyTorch's default initialisation, and zeros where a parameter's key is None."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Initializer = Callable[[jax.Array, tuple[int, ...], np.dtype], jax.Array]
"""Function of a key, a shape and a dtype that returns an array, as in `jax.nn.initializers`."""

_kaiming_uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class KeylessRngs(nnx.Rngs):
    """Random streams whose parameter keys are None, for parameters that need no random numbers.

    `models.blank_model` builds networks with it, which saves tracing their initialisation.
    """

    def params(self):
        return None


def kernel_init(key: jax.Array | None, shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Draw a kernel uniformly in +-1/sqrt(fan_in): Kaiming-uniform with a = sqrt(5).

    Args:
      key: random key, or None for zeros.
      shape: `[kh, kw, in, out]` or `[in, out]`.
      dtype: dtype of the kernel.
    """
    return jnp.zeros(shape, dtype) if key is None else _kaiming_uniform(key, shape, dtype)


def uniform_init(
    key: jax.Array | None, shape: tuple[int, ...], bound: float, dtype=np.float32
) -> jax.Array:
    """Draw an array uniformly in +-bound; without a key return zeros."""
    if key is None:
        return jnp.zeros(shape, dtype)
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def bias_init(key: jax.Array | None, kernel_shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Draw the bias `[out]` of a kernel `[..., in, out]` uniformly in +-1/sqrt(fan_in).

    Args:
      key: random key, or None for zeros.
      kernel_shape: shape of the kernel that the bias belongs to.
      dtype: dtype of the bias.
    """
    bound = 1 / np.sqrt(np.prod(kernel_shape[:-1]))
    return uniform_init(key, kernel_shape[-1:], bound, dtype)


def reinitialize(
    module: nnx.Module,
    layer_types: tuple[type, ...],
    rngs: nnx.Rngs,
    bias: Initializer | None = None,
    **initializers: Initializer,
):
    """Draw the parameters of a module's layers again, in place.

    Args:
      module: network or part of one.
      layer_types: classes of the layers whose parameters are drawn.
      rngs: stream `params`; without keys (`KeylessRngs`) the parameters stay as they are.
      bias: initializer of the biases; layers without a bias are left as they are.
      **initializers: initializers of other parameters, by the parameter's name.
    """
    for _, layer in nnx.iter_graph(module):
        if not isinstance(layer, layer_types):
            continue
        for name, initializer in {**initializers, "bias": bias}.items():
            parameter = getattr(layer, name, None)
            if initializer is None or parameter is None:
                continue
            if (key := rngs.params()) is not None:
                parameter.set_value(initializer(key, parameter.shape, parameter.dtype))
