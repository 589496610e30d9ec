"""PyTorch's initialisations: zeros where there is no key, for weights about to be read."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax.layers.leaves import assign

Initializer = Callable[[jax.Array, tuple[int, ...], np.dtype], jax.Array]
_kaiming_uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def kernel_init(key: jax.Array | None, shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Kaiming-uniform with a = sqrt(5): uniform in +-1/sqrt(fan_in); HWIO and [in, out] kernels."""
    return jnp.zeros(shape, dtype) if key is None else _kaiming_uniform(key, shape, dtype)


def uniform_init(
    key: jax.Array | None, shape: tuple[int, ...], bound: float, dtype=np.float32
) -> jax.Array:
    """Uniform in +-bound."""
    if key is None:
        return jnp.zeros(shape, dtype)
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def bias_init(key: jax.Array | None, kernel_shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Uniform in +-1/sqrt(fan_in) of the kernel `[..., in, out]` that the bias goes with."""
    bound = 1 / np.sqrt(np.prod(kernel_shape[:-1]))
    return uniform_init(key, kernel_shape[-1:], bound, dtype)


def initialize(
    module: nnx.Module,
    layers: tuple[type, ...],
    rngs: nnx.Rngs,
    bias: Initializer | None = None,
    **leaves: Initializer,
):
    """Draws parameters of all layers of some kinds within a module anew.

    Args:
      module: what holds the layers.
      layers: their kinds.
      rngs: stream `params`.
      bias: of the biases, where there are any.
      **leaves: by the parameters' names.
    """
    for _, layer in nnx.iter_graph(module):
        if not isinstance(layer, layers):
            continue
        for name, init in {**leaves, "bias": bias}.items():
            parameter = getattr(layer, name, None)
            if init is None or parameter is None:
                continue
            if (key := rngs.params()) is not None:
                assign(layer, **{name: init(key, parameter.shape, parameter.dtype)})
