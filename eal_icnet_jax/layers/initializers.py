"""PyTorch's default initialisation."""

import jax
import jax.numpy as jnp
import numpy as np

_kaiming_uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def kernel_init(key: jax.Array | None, shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Kaiming-uniform with a = sqrt(5): uniform in +-1/sqrt(fan_in); HWIO and [in, out] kernels.

    Zeros where there is no key, for weights that are about to be read.
    """
    return jnp.zeros(shape, dtype) if key is None else _kaiming_uniform(key, shape, dtype)


def bias_init(key: jax.Array | None, kernel_shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Uniform in +-1/sqrt(fan_in) of the kernel `[..., in, out]` that the bias goes with.

    Zeros where there is no key.
    """
    if key is None:
        return jnp.zeros(kernel_shape[-1:], dtype)
    bound = 1 / np.sqrt(np.prod(kernel_shape[:-1]))
    return jax.random.uniform(key, kernel_shape[-1:], dtype, -bound, bound)
