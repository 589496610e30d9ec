"""PyTorch's default initialisation."""

import jax
import numpy as np

kernel_init = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Kaiming-uniform with a = sqrt(5): uniform in +-1/sqrt(fan_in), for HWIO and [in, out] kernels."""


def bias_init(key: jax.Array, kernel_shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Uniform in +-1/sqrt(fan_in) of the kernel `[..., in, out]` that the bias goes with."""
    bound = 1 / np.sqrt(np.prod(kernel_shape[:-1]))
    return jax.random.uniform(key, kernel_shape[-1:], dtype, -bound, bound)
