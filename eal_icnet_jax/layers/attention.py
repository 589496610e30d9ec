"""The two attentions of EAL-ICNet: TSSA and position attention."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import regularization
from eal_icnet_jax.layers.convolution import Conv
from eal_icnet_jax.layers.frame import bounded, inside, is_framed
from eal_icnet_jax.layers.initializers import bias_init, kernel_init

BLOCK = 256
"""Queries, or keys, whose scores exist at once; on CPU they stay near the caches at 512x512."""


def token_statistics_attention(
    w: jax.Array, temperature: jax.Array, counted: jax.Array | None = None
) -> jax.Array:
    """Token statistics self-attention, linear in the number of tokens.

    Wu et al., "Token Statistics Transformer: Linear-Time Attention via Variational Rate
    Reduction", ICLR 2025.

    Args:
      w: projected tokens `[B, N, heads, features]`, float32 or wider.
      temperature: `[heads, 1]`.
      counted: which tokens there are, bool `[N]`, if not all; the others must be 0.

    Returns:
      `[B, N, heads, features]`.
    """
    energy = jnp.square(w)
    # PyTorch's `normalize` floors the norm at 1e-12, hence the sum of squares at 1e-24.
    scale = temperature / jnp.maximum(energy.sum(1), 1e-24)
    membership = jax.nn.softmax(jnp.einsum("bnhf,bhf->bnh", energy, scale), axis=-1)
    if counted is not None:
        membership = membership * counted[:, None]
    weights = membership / (membership.sum(1, keepdims=True) + 1e-8)
    dots = jnp.einsum("bnh,bnhf->bhf", weights, energy)
    return -(w * membership[..., None]) / (1 + dots[:, None])


def _in_blocks(tokens: jax.Array, size: int) -> jax.Array:
    """`[B, N, F]` to `[ceil(N / size), B, size, F]`, the last block filled up with zeros."""
    batch, count, features = tokens.shape
    blocks = -(-count // size)
    padded = jnp.pad(tokens, ((0, 0), (0, blocks * size - count), (0, 0)))
    return padded.reshape(batch, blocks, size, features).swapaxes(0, 1)


def _from_blocks(blocks: jax.Array, count: int) -> jax.Array:
    """`_in_blocks` undone."""
    number, batch, size, features = blocks.shape
    return blocks.swapaxes(0, 1).reshape(batch, number * size, features)[:, :count]


def _products(subscripts: str, *operands: jax.Array) -> jax.Array:
    """An einsum summed in float32 at least."""
    dtype = jnp.promote_types(operands[0].dtype, jnp.float32)
    return jnp.einsum(subscripts, *operands, preferred_element_type=dtype)


def _attend(query, key, value):
    """The output, and the logarithm of each query's sum of exponentials `[B, N, 1]`."""
    tokens = query.shape[1]
    size = min(tokens, BLOCK)

    def attend(queries):
        scores = _products("bqf,bkf->bqk", queries, key)
        highest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        # Dividing the sums, not the weights, spares a pass over the scores.
        total = weights.sum(-1, keepdims=True)
        mixed = _products("bqk,bkc->bqc", weights.astype(value.dtype), value)
        return (mixed / total).astype(value.dtype), highest + jnp.log(total)

    out, log_total = jax.lax.map(attend, _in_blocks(query, size))
    return _from_blocks(out, tokens), _from_blocks(log_total, tokens)


@jax.custom_vjp
def position_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Unscaled softmax attention, a block of queries at a time, and of keys in the backward pass.

    At most `BLOCK * N` scores exist at once, backward too: as in Dao et al., "FlashAttention",
    NeurIPS 2022, that pass computes them again from each query's log-sum-exp.

    Args:
      query, key: `[B, N, features]`.
      value: `[B, N, channels]`.

    Returns:
      `softmax(query key^T) value`, `[B, N, channels]`, in the value's dtype.
    """
    return _attend(query, key, value)[0]


def _attention_forward(query, key, value):
    out, log_total = _attend(query, key, value)
    return out, (query, key, value, out, log_total)


def _attention_backward(kept, gradient):
    query, key, value, out, log_total = kept
    tokens = key.shape[1]
    size = min(tokens, BLOCK)
    wide = log_total.dtype
    log_total = log_total.swapaxes(1, 2)
    shared = _products("bqc,bqc->bq", gradient.astype(wide), out.astype(wide))[:, None]

    def add_block(to_query, block):
        keys, values = block
        scores = _products("bkf,bqf->bkq", keys, query)
        # No weight exceeds 1; the keys that fill up the last block are kept from it too.
        weights = jnp.exp(jnp.minimum(scores - log_total, 0))
        to_values = _products("bkq,bqc->bkc", weights.astype(gradient.dtype), gradient)
        to_weights = _products("bkc,bqc->bkq", values, gradient)
        to_scores = (weights * (to_weights - shared)).astype(query.dtype)
        to_keys = _products("bkq,bqf->bkf", to_scores, query)
        to_query += _products("bkq,bkf->bqf", to_scores, keys)
        return to_query, (to_keys.astype(key.dtype), to_values.astype(value.dtype))

    to_query, (to_key, to_value) = jax.lax.scan(
        add_block, jnp.zeros(query.shape, wide), (_in_blocks(key, size), _in_blocks(value, size))
    )
    to_key, to_value = (_from_blocks(blocks, tokens) for blocks in (to_key, to_value))
    return to_query.astype(query.dtype), to_key, to_value


position_attention.defvjp(_attention_forward, _attention_backward)


def _with_key_bias(query, key, counted):
    """One more feature, which takes the keys that are not counted out of the softmax."""
    query = jnp.concatenate([query, jnp.ones_like(query[..., :1])], -1)
    bias = jnp.where(counted, 0, -1e9)[:, None] * jnp.ones_like(key[..., :1])
    return query, jnp.concatenate([key, bias.astype(key.dtype)], -1)


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
        self.dropout = regularization.dropout(dropout, rngs)
        self.heads = heads
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to the same shape."""
        batch, height, width, features = x.shape
        counted = inside((height, width)).reshape(-1) if is_framed() else None
        tokens = bounded(x).astype(self.dtype).reshape(batch, height * width, features)
        w = tokens @ self.projection[...].astype(self.dtype)
        w = w.astype(jnp.promote_types(self.dtype, jnp.float32)).reshape(
            batch, height * width, self.heads, -1
        )
        mixed = token_statistics_attention(w, self.temperature[...], counted).astype(self.dtype)
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
        if is_framed():
            query, key = _with_key_bias(query, key, inside((height, width)).reshape(-1))
        out = position_attention(query, key, value).reshape(x.shape)
        return self.gamma[...].astype(self.dtype) * out + x.astype(self.dtype)
