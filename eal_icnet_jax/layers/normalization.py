"""Batch normalisation and PReLU as PyTorch defines them."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class Counter(nnx.BatchStat):
    """PyTorch's `num_batches_tracked`: how many batches the running statistics have seen."""


class BatchNorm(nnx.Module):
    """`torch.nn.BatchNorm2d` over the last axis.

    Differs from `nnx.BatchNorm` in what PyTorch does differently: `momentum` weighs the new batch,
    and the running variance takes the unbiased batch variance (n / (n - 1)), while the
    normalisation itself takes the biased one. Statistics are float32 at least. Under
    `jax.jit` over a mesh the batch is the global batch, so the statistics are the global batch's.

    Args:
      features: channels C.
      epsilon: added to the variance.
      momentum: weight of the batch in the running statistics.
      dtype: of the output.

    In training mode (`model.train()`) batch statistics normalise and the running ones are updated;
    in evaluation mode (`model.eval()`) the running ones normalise.
    """

    def __init__(self, features: int, *, epsilon=1e-5, momentum=0.1, dtype=jnp.float32):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.count = Counter(jnp.zeros((), jnp.int32))
        self.epsilon = epsilon
        self.momentum = momentum
        self.dtype = dtype
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., C]` to the same shape."""
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            axes = tuple(range(x.ndim - 1))
            mean = x.mean(axes)
            var = jnp.square(x - mean).mean(axes)
            self._update(mean, var, x.size // x.shape[-1])
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return ((x - mean) * factor + self.bias[...]).astype(self.dtype)

    def _update(self, mean: jax.Array, var: jax.Array, n: int):
        if n < 2:
            raise ValueError(
                "batch statistics need more than one value per channel: use a larger image or batch"
            )
        mean, var = jax.lax.stop_gradient((mean, var * (n / (n - 1))))
        self.mean[...] += self.momentum * (mean - self.mean[...])
        self.var[...] += self.momentum * (var - self.var[...])
        self.count[...] += 1

    def folded(self) -> "Affine":
        """What this computes in evaluation mode, from its running statistics."""
        scale, bias, mean, var = (
            np.asarray(leaf[...], np.float64)
            for leaf in (self.scale, self.bias, self.mean, self.var)
        )
        factor = scale / np.sqrt(var + self.epsilon)
        return Affine(factor, bias - mean * factor, dtype=self.dtype)


class Affine(nnx.Module):
    """`x * scale + offset` per channel, float32 at least: a `BatchNorm` that learns no more."""

    def __init__(self, scale: np.ndarray, offset: np.ndarray, *, dtype=jnp.float32):
        self.scale = nnx.Param(np.asarray(scale, np.float32))
        self.offset = nnx.Param(np.asarray(offset, np.float32))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., C]` to the same shape."""
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return (x * self.scale[...] + self.offset[...]).astype(self.dtype)


class PReLU(nnx.Module):
    """`x` where positive, else `slope * x`, with a learned slope per channel, 0.25 at first."""

    def __init__(self, features: int):
        self.slope = nnx.Param(jnp.full(features, 0.25, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, x * self.slope[...].astype(x.dtype))


class BNPReLU(nnx.Module):
    """`BatchNorm` with epsilon 1e-3, none once a convolution has taken it in, then `PReLU`."""

    def __init__(self, features: int, *, dtype=jnp.float32):
        self.bn = BatchNorm(features, epsilon=1e-3, dtype=dtype)
        self.prelu = PReLU(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.prelu(x if self.bn is None else self.bn(x))
