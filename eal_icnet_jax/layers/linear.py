"""Layers on the last axis: `torch.nn.Linear` and `torch.nn.LayerNorm`."""

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers.initializers import bias_init, kernel_init


class Linear(nnx.Module):
    """`[..., in]` to `[..., out]`.

    Args:
      in_features, out_features: channels.
      use_bias: adds a bias.
      dtype: of the computation; parameters are float32.
      rngs: the `params` stream initialises the kernel `[in, out]` and the bias.
    """

    def __init__(self, in_features, out_features, *, use_bias=True, dtype, rngs: nnx.Rngs):
        shape = (in_features, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(bias_init(rngs.params(), shape)) if use_bias else None
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(self.dtype) @ self.kernel[...].astype(self.dtype)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class LayerNorm(nnx.Module):
    """Each token's features to mean 0 and variance 1, then scale and bias; float32 at least."""

    def __init__(self, features: int, *, epsilon: float = 1e-5, dtype):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.epsilon = epsilon
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., features]` to the same shape."""
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = x.mean(-1, keepdims=True)
        var = jnp.square(x - mean).mean(-1, keepdims=True)
        x = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        return (x * self.scale[...] + self.bias[...]).astype(self.dtype)
