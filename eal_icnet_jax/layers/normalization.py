"""Batch normalisation and PReLU as PyTorch defines them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax.layers.initializers import constant
from eal_icnet_jax.layers.plain_forms import takes_plain_forms


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mean and biased variance `[C]` of `[..., C]`."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return mean, jnp.square(x - mean).mean(axes)


@jax.jit
def _prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, x * slope)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _running_statistics(old, batch, count: int, momentum: float):
    """Return running mean, variance and number of batches after one more batch."""
    mean, var, batches = old
    batch_mean, batch_var = batch
    unbiased = batch_var * (count / (count - 1))
    return mean + momentum * (batch_mean - mean), var + momentum * (unbiased - var), batches + 1


@functools.partial(jax.jit, static_argnums=4)
def batch_norm_prelu(
    x: jax.Array, scale: jax.Array, bias: jax.Array, slope: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise by the statistics of the batch, then apply PReLU.

    The backward pass recomputes all intermediate values from `x`: reading them from memory would
    take longer than computing them. Compiled by itself so that equal layers are traced once.

    Args:
      x: `[..., C]`, float32 or wider.
      scale: `[C]`.
      bias: `[C]`.
      slope: slope of PReLU for negative values, `[C]`.
      epsilon: number added to the variance.

    Returns:
      The output `[..., C]`, and the batch's mean and biased variance, each `[C]`, which carry no
      gradient.
    """
    return _batch_norm_prelu(x, scale, bias, slope, epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _batch_norm_prelu(x, scale, bias, slope, epsilon):
    mean, var = _moments(x)
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return _prelu((x - mean) * factor + bias, slope), mean, var


def _batch_norm_prelu_forward(x, scale, bias, slope, epsilon):
    out, mean, var = _batch_norm_prelu(x, scale, bias, slope, epsilon)
    return (out, mean, var), (x, scale, bias, slope, mean, var)


def _batch_norm_prelu_backward(epsilon, residuals, gradients):
    x, scale, bias, slope, mean, var = residuals
    out_gradient = gradients[0]
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    inverse = jax.lax.rsqrt(var + epsilon)
    normalised = (x - mean) * inverse
    y = normalised * scale + bias
    slope_gradient = jnp.where(y > 0, 0, out_gradient * y).sum(axes)
    y_gradient = jnp.where(y > 0, out_gradient, out_gradient * slope)
    bias_gradient = y_gradient.sum(axes)
    scale_gradient = (y_gradient * normalised).sum(axes)
    x_gradient = (
        scale
        * inverse
        * (y_gradient - bias_gradient / count - normalised * (scale_gradient / count))
    )
    return x_gradient, scale_gradient, bias_gradient, slope_gradient


_batch_norm_prelu.defvjp(_batch_norm_prelu_forward, _batch_norm_prelu_backward)


class Counter(nnx.BatchStat):
    """PyTorch's `num_batches_tracked`: number of batches in the running statistics."""


class BatchNorm(nnx.Module):
    """`torch.nn.BatchNorm2d` over the last axis.

    In training mode (`model.train()`) the batch's statistics normalise, and the running statistics
    are updated. In evaluation mode (`model.eval()`) the running statistics normalise.

    Follows PyTorch where `nnx.BatchNorm` differs: `momentum` is the weight of the new batch, and
    the running variance takes the unbiased batch variance (n / (n - 1)), while the normalisation
    uses the biased one. Under `jax.jit` over a mesh the statistics are those of the global batch.

    Args:
      features: channels C.
      epsilon: number added to the variance.
      momentum: weight of the new batch in the running statistics.
      dtype: dtype of the output; parameters and statistics are float32 at least.
    """

    def __init__(self, features: int, *, epsilon=1e-5, momentum=0.1, dtype=jnp.float32):
        self.scale = nnx.Param(constant(features, 1))
        self.bias = nnx.Param(constant(features, 0))
        self.mean = nnx.BatchStat(constant(features, 0))
        self.var = nnx.BatchStat(constant(features, 1))
        self.count = Counter(constant((), 0, np.int32))
        self.epsilon = epsilon
        self.momentum = momentum
        self.dtype = dtype
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[..., C]` to the same shape."""
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = _moments(x)
            self.update_statistics(mean, var, x.size // x.shape[-1])
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return ((x - mean) * factor + self.bias[...]).astype(self.dtype)

    def update_statistics(self, mean: jax.Array, var: jax.Array, count: int):
        """Update the running statistics with those of a batch.

        Args:
          mean: mean per channel, `[C]`.
          var: biased variance per channel, `[C]`.
          count: number of values per channel.

        Raises:
          ValueError: `count` is less than 2.
        """
        if count < 2:
            raise ValueError(
                "batch statistics need more than one value per channel: use a larger image or batch"
            )
        old = self.mean[...], self.var[...], self.count[...]
        new = _running_statistics(old, jax.lax.stop_gradient((mean, var)), count, self.momentum)
        # `variable[...] = value` asks a traced value for its sharding, which searches the whole
        # trace: minutes for a deep network. `set_value` does not.
        for variable, value in zip((self.mean, self.var, self.count), new, strict=True):
            variable.set_value(value)

    def to_affine(self) -> "Affine":
        """Return a layer that computes what this one computes in evaluation mode."""
        scale, bias, mean, var = (
            np.asarray(variable[...], np.float64)
            for variable in (self.scale, self.bias, self.mean, self.var)
        )
        factor = scale / np.sqrt(var + self.epsilon)
        offset = bias - mean * factor
        param_dtype = self.scale[...].dtype
        return Affine(factor.astype(param_dtype), offset.astype(param_dtype), dtype=self.dtype)


class Affine(nnx.Module):
    """`x * scale + offset` per channel, computed in float32 at least: a `BatchNorm` for evaluation.

    Args:
      scale: `[C]`.
      offset: `[C]`.
      dtype: dtype of the output.
    """

    def __init__(self, scale: np.ndarray, offset: np.ndarray, *, dtype=jnp.float32):
        self.scale = nnx.Param(scale)
        self.offset = nnx.Param(offset)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[..., C]` to the same shape."""
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return (x * self.scale[...] + self.offset[...]).astype(self.dtype)


class PReLU(nnx.Module):
    """`x` where positive, otherwise `slope * x`; the slope of each channel is learned from 0.25.

    Args:
      features: channels C.
    """

    def __init__(self, features: int):
        self.slope = nnx.Param(constant(features, 0.25))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[..., C]` to the same shape and dtype."""
        slope = self.slope[...].astype(x.dtype)
        if takes_plain_forms():
            return jax.nn.relu(x) - slope * jax.nn.relu(-x)
        return _prelu(x, slope)


class BNPReLU(nnx.Module):
    """`BatchNorm` with epsilon 1e-3, then `PReLU`.

    The normalisation is None after a convolution has absorbed it (`fold_batch_norms`).

    Args:
      features: channels C.
      dtype: dtype of the output.
    """

    def __init__(self, features: int, *, dtype=jnp.float32):
        self.bn = BatchNorm(features, epsilon=1e-3, dtype=dtype)
        self.prelu = PReLU(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[..., C]` to the same shape."""
        bn = self.bn
        if not isinstance(bn, BatchNorm) or bn.use_running_average:
            return self.prelu(x if bn is None else bn(x))
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        parameters = (bn.scale[...], bn.bias[...], self.prelu.slope[...])
        out, mean, var = batch_norm_prelu(x, *parameters, bn.epsilon)
        bn.update_statistics(mean, var, x.size // x.shape[-1])
        return out.astype(bn.dtype)
