"""The two attentions of EAL-ICNet: TSSA and position attention."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers.convolution import Conv
from eal_icnet_jax.layers.initializers import bias_init, kernel_init

QUERY_BLOCK = 256
"""Queries whose scores exist at once; on CPU they stay near the caches at 512x512."""


def token_statistics_attention(w: jax.Array, temperature: jax.Array) -> jax.Array:
    """Token statistics self-attention, linear in the number of tokens.

    Wu et al., "Token Statistics Transformer: Linear-Time Attention via Variational Rate
    Reduction", ICLR 2025.

    Args:
      w: projected tokens `[B, N, heads, features]`, float32 or wider.
      temperature: `[heads, 1]`.

    Returns:
      `[B, N, heads, features]`.
    """
    energy = jnp.square(w)
    # PyTorch's `normalize` floors the norm at 1e-12, hence the sum of squares at 1e-24.
    scale = temperature / jnp.maximum(energy.sum(1), 1e-24)
    membership = jax.nn.softmax(jnp.einsum("bnhf,bhf->bnh", energy, scale), axis=-1)
    weights = membership / (membership.sum(1, keepdims=True) + 1e-8)
    dots = jnp.einsum("bnh,bnhf->bhf", weights, energy)
    return -(w * membership[..., None]) / (1 + dots[:, None])


def position_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Unscaled softmax attention, computed a block of queries at a time.

    At most `QUERY_BLOCK * N` scores exist at once, in the backward pass too.

    Args:
      query, key: `[B, N, features]`.
      value: `[B, N, channels]`.

    Returns:
      `softmax(query key^T) value`, `[B, N, channels]`, in the value's dtype.
    """

    score_dtype = jnp.promote_types(query.dtype, jnp.float32)

    def attend(block):
        scores = jnp.einsum("bqf,bkf->bqk", block, key, preferred_element_type=score_dtype)
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
        # Dividing the sums, not the weights, spares a pass over the scores.
        total = weights.sum(-1, keepdims=True)
        mixed = jnp.einsum("bqk,bkc->bqc", weights.astype(value.dtype), value)
        return (mixed / total).astype(value.dtype)

    batch, tokens, features = query.shape
    if tokens <= QUERY_BLOCK:
        return attend(query)
    blocks = -(-tokens // QUERY_BLOCK)
    padded = jnp.pad(query, ((0, 0), (0, blocks * QUERY_BLOCK - tokens), (0, 0)))
    padded = padded.reshape(batch, blocks, QUERY_BLOCK, features).swapaxes(0, 1)
    out = jax.lax.map(jax.checkpoint(attend), padded)
    return out.swapaxes(0, 1).reshape(batch, blocks * QUERY_BLOCK, -1)[:, :tokens]


class TSSA(nnx.Module):
    """Token statistics self-attention on the pixels of a feature map.

    Args:
      features: channels C, a multiple of `heads`.
      heads: how many groups of channels compete for each token.
      dropout: rate on the output in training (the original's `proj_drop`; 0 as released).
      dtype: of the projections; the statistics are float32 at least.
      rngs: streams `params`, and `dropout` where the rate is not 0.
    """

    def __init__(self, features: int, *, heads=8, dropout=0.0, dtype=jnp.float32, rngs: nnx.Rngs):
        if features % heads:
            raise ValueError(f"TSSA needs heads that divide {features} features, but got {heads}")
        linear = functools.partial(kernel_init, shape=(features, features), dtype=jnp.float32)
        self.projection = nnx.Param(linear(rngs.params()))
        self.temperature = nnx.Param(jnp.ones((heads, 1)))
        self.output_kernel = nnx.Param(linear(rngs.params()))
        self.output_bias = nnx.Param(bias_init(rngs.params(), (features, features)))
        self.dropout = nnx.Dropout(dropout, rngs=rngs if dropout else None)
        self.heads = heads
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to the same shape."""
        batch, height, width, features = x.shape
        tokens = x.astype(self.dtype).reshape(batch, height * width, features)
        w = tokens @ self.projection[...].astype(self.dtype)
        w = w.astype(jnp.promote_types(self.dtype, jnp.float32)).reshape(
            batch, height * width, self.heads, -1
        )
        mixed = token_statistics_attention(w, self.temperature[...]).astype(self.dtype)
        mixed = mixed.reshape(batch, height * width, features)
        out = mixed @ self.output_kernel[...].astype(self.dtype)
        out = self.dropout(out + self.output_bias[...].astype(self.dtype))
        return out.reshape(x.shape)


class PositionAttention(nnx.Module):
    """Attention of every pixel to every pixel, added to the input with a learned weight.

    Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, as in TransAttUnet. The
    weight `gamma` starts at 0; query and key have an eighth of the channels.

    Args:
      features: channels C, at least 8.
      dtype: of the projections; the scores and the softmax are float32 at least.
      rngs: stream `params`.
    """

    def __init__(self, features: int, *, dtype=jnp.float32, rngs: nnx.Rngs):
        conv = functools.partial(
            Conv, features, kernel_size=(1, 1), use_bias=True, dtype=dtype, rngs=rngs
        )
        self.query = conv(out_features=features // 8)
        self.key = conv(out_features=features // 8)
        self.value = conv(out_features=features)
        self.gamma = nnx.Param(jnp.zeros(1))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to the same shape."""
        batch, height, width, _ = x.shape
        query, key, value = (
            layer(x).reshape(batch, height * width, -1)
            for layer in (self.query, self.key, self.value)
        )
        out = position_attention(query, key, value).reshape(x.shape)
        return self.gamma[...].astype(self.dtype) * out + x.astype(self.dtype)
