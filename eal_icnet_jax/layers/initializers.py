"""PyTorch's default initialisation, and zeros where a parameter's key is None."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np
from flax import nnx

Initializer = Callable[[jax.Array, tuple[int, ...], np.dtype], jax.Array]
"""Function of a key, a shape and a dtype that returns an array, as in `jax.nn.initializers`."""


class KeylessRngs(nnx.Rngs):
    """Random streams whose parameter keys are None, for parameters that need no random numbers.

    `models.blank_model` builds networks with it, which saves tracing their initialisation.
    """

    def params(self):
        return None


def _draw(sample: Callable, key: jax.Array, shape: tuple[int, ...], dtype, *parameters):
    """Return `sample(key, shape, dtype, *parameters)`, a function of `jax.random`.

    With JAX's default, `jax_threefry_partitionable`, an element depends on its position only: the
    first ones of a longer draw are the same. The lengths are powers of 4 from 4096: few programs
    are compiled, where each shape would need its own.
    """
    if isinstance(key, jax.core.Tracer):  # a program is being made that draws all of a network
        return sample(key, shape, dtype, *parameters)
    count = math.prod(shape)
    length = 4096
    while length < count:
        length *= 4
    return np.asarray(sample(key, (length,), dtype, *parameters))[:count].reshape(shape)


def variance_scaling(
    scale: float, mode: Literal["fan_in", "fan_out", "fan_avg"], distribution: str
) -> Initializer:
    """Return the initializer of a kernel `[..., in, out]` that JAX has under this name.

    Args:
      scale: of the variance.
      mode: what the variance is divided by.
      distribution: "uniform" or "normal".
    """

    def initialize(key, shape, dtype=np.float32):
        area = math.prod(shape[:-2])
        fan_in, fan_out = area * shape[-2], area * shape[-1]
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        variance = np.asarray(scale / fans[mode], dtype)
        if distribution == "normal":
            return normal(np.sqrt(variance))(key, shape, dtype)
        unit = _draw(jax.random.uniform, key, shape, dtype, -1.0, 1.0)
        return jax.device_put(unit * np.sqrt(np.asarray(3, dtype) * variance))

    return initialize


def normal(deviation: float) -> Initializer:
    """Return the initializer that draws from a normal distribution around 0."""

    def initialize(key, shape, dtype=np.float32):
        return jax.device_put(
            _draw(jax.random.normal, key, shape, dtype) * np.asarray(deviation, dtype)
        )

    return initialize


def zeros(key: jax.Array, shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Return zeros: an initializer."""
    del key
    return constant(shape, 0, dtype)


_kaiming_uniform = variance_scaling(1 / 3, "fan_in", "uniform")


def constant(shape: int | tuple[int, ...], value: float, dtype=np.float32) -> jax.Array:
    """Return an array of one value, without a program."""
    return jax.device_put(np.full(shape, value, dtype))


def kernel_init(key: jax.Array | None, shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Draw a kernel uniformly in +-1/sqrt(fan_in): Kaiming-uniform with a = sqrt(5).

    Args:
      key: random key, or None for zeros.
      shape: `[kh, kw, in, out]` or `[in, out]`.
      dtype: dtype of the kernel.
    """
    return constant(shape, 0, dtype) if key is None else _kaiming_uniform(key, shape, dtype)


def uniform_init(
    key: jax.Array | None, shape: tuple[int, ...], bound: float, dtype=np.float32
) -> jax.Array:
    """Draw an array uniformly in +-bound; without a key return zeros."""
    if key is None:
        return constant(shape, 0, dtype)
    return jax.device_put(_draw(jax.random.uniform, key, shape, dtype, -bound, bound))


def bias_init(key: jax.Array | None, kernel_shape: tuple[int, ...], dtype=np.float32) -> jax.Array:
    """Draw the bias `[out]` of a kernel `[..., in, out]` uniformly in +-1/sqrt(fan_in).

    Args:
      key: random key, or None for zeros.
      kernel_shape: shape of the kernel that the bias belongs to.
      dtype: dtype of the bias.
    """
    bound = 1 / math.sqrt(math.prod(kernel_shape[:-1]))  # of Python's type, as in `kernel_init`
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
