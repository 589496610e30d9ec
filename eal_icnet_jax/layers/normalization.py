"""Batch normalisation and PReLU as PyTorch defines them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax.layers.leaves import assign


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance `[C]` of `[..., C]`."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return mean, jnp.square(x - mean).mean(axes)


def _prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, x * slope)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def batch_norm_prelu(
    x: jax.Array, scale: jax.Array, bias: jax.Array, slope: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalisation by the batch's own statistics, then PReLU.

    The backward pass computes everything again from `x`, so that nothing between is kept or read
    from memory, which takes longer than computing it.

    Args:
      x: `[..., C]`, float32 or wider.
      scale, bias, slope: `[C]`.

    Returns:
      The output, and the batch's mean and biased variance `[C]`, which carry no gradient.
    """
    mean, var = _moments(x)
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return _prelu((x - mean) * factor + bias, slope), mean, var


def _batch_norm_prelu_forward(x, scale, bias, slope, epsilon):
    out, mean, var = batch_norm_prelu(x, scale, bias, slope, epsilon)
    return (out, mean, var), (x, scale, bias, slope, mean, var)


def _batch_norm_prelu_backward(epsilon, kept, gradients):
    x, scale, bias, slope, mean, var = kept
    gradient = gradients[0]
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    inverse = jax.lax.rsqrt(var + epsilon)
    normal = (x - mean) * inverse
    y = normal * scale + bias
    to_slope = jnp.where(y > 0, 0, gradient * y).sum(axes)
    to_y = jnp.where(y > 0, gradient, gradient * slope)
    to_bias = to_y.sum(axes)
    to_scale = (to_y * normal).sum(axes)
    to_x = scale * inverse * (to_y - to_bias / count - normal * (to_scale / count))
    return to_x, to_scale, to_bias, to_slope


batch_norm_prelu.defvjp(_batch_norm_prelu_forward, _batch_norm_prelu_backward)


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
            mean, var = _moments(x)
            self.update(mean, var, x.size // x.shape[-1])
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return ((x - mean) * factor + self.bias[...]).astype(self.dtype)

    def update(self, mean: jax.Array, var: jax.Array, n: int):
        """Takes the mean and biased variance of `n` values into the running statistics."""
        if n < 2:
            raise ValueError(
                "batch statistics need more than one value per channel: use a larger image or batch"
            )
        mean, var = jax.lax.stop_gradient((mean, var * (n / (n - 1))))
        assign(
            self,
            mean=self.mean[...] + self.momentum * (mean - self.mean[...]),
            var=self.var[...] + self.momentum * (var - self.var[...]),
            count=self.count[...] + 1,
        )

    def folded(self) -> "Affine":
        """What this computes in evaluation mode, from its running statistics."""
        scale, bias, mean, var = (
            np.asarray(leaf[...], np.float64)
            for leaf in (self.scale, self.bias, self.mean, self.var)
        )
        factor = scale / np.sqrt(var + self.epsilon)
        kept = self.scale[...].dtype
        offset = bias - mean * factor
        return Affine(factor.astype(kept), offset.astype(kept), dtype=self.dtype)


class Affine(nnx.Module):
    """`x * scale + offset` per channel, float32 at least: a `BatchNorm` that learns no more."""

    def __init__(self, scale: np.ndarray, offset: np.ndarray, *, dtype=jnp.float32):
        self.scale = nnx.Param(scale)
        self.offset = nnx.Param(offset)
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
        return _prelu(x, self.slope[...].astype(x.dtype))


class BNPReLU(nnx.Module):
    """`BatchNorm` with epsilon 1e-3, none once a convolution has taken it in, then `PReLU`."""

    def __init__(self, features: int, *, dtype=jnp.float32):
        self.bn = BatchNorm(features, epsilon=1e-3, dtype=dtype)
        self.prelu = PReLU(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        bn = self.bn
        if not isinstance(bn, BatchNorm) or bn.use_running_average:
            return self.prelu(x if bn is None else bn(x))
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        leaves = (bn.scale[...], bn.bias[...], self.prelu.slope[...])
        out, mean, var = batch_norm_prelu(x, *leaves, bn.epsilon)
        bn.update(mean, var, x.size // x.shape[-1])
        return out.astype(bn.dtype)
