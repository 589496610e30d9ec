"""The two attentions of EAL-ICNet: TSSA and position attention."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers import regularization
from eal_icnet_jax.layers.batch_sharding import batch_shards
from eal_icnet_jax.layers.canvas import image_mask, is_on_canvas, mask_outside
from eal_icnet_jax.layers.channel_product import channel_product
from eal_icnet_jax.layers.convolution_layers import Conv
from eal_icnet_jax.layers.initializers import bias_init, constant, kernel_init
from eal_icnet_jax.layers.plain_forms import takes_plain_forms

BLOCK_TOKENS = 256
"""Number of queries, or keys, whose scores exist at once on CPU. Those of a 512x512 image then stay
near the caches."""

CPU_SCORES = 2**20
"""Largest number of scores of several images that exist at once on CPU, four megabytes in float32.
More would leave the caches: the images then follow one another."""

ACCELERATOR_SCORES = 2**28
"""Largest number of scores of a batch that exist at once elsewhere, a gigabyte in float32. Those of
sixteen 512x512 images are then one product, where on CPU there are many small ones."""


def token_statistics_attention(
    w: jax.Array, temperature: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Compute token statistics self-attention, which is linear in the number of tokens.

    Wu et al., "Token Statistics Transformer: Linear-Time Attention via Variational Rate
    Reduction", ICLR 2025.

    Args:
      w: projected tokens `[B, N, heads, features]`, float32 or wider.
      temperature: `[heads, 1]`.
      mask: bool `[N]`, False for tokens to ignore, which must be 0; None for all tokens.

    Returns:
      `[B, N, heads, features]`.
    """
    energy = jnp.square(w)
    # PyTorch's `normalize` floors the norm at 1e-12, hence the sum of squares at 1e-24.
    scale = temperature / jnp.maximum(energy.sum(1), 1e-24)
    membership = jax.nn.softmax(jnp.einsum("bnhf,bhf->bnh", energy, scale), axis=-1)
    if mask is not None:
        membership = membership * mask[:, None]
    weights = membership / (membership.sum(1, keepdims=True) + 1e-8)
    dots = jnp.einsum("bnh,bnhf->bhf", weights, energy)
    return -(w * membership[..., None]) / (1 + dots[:, None])


def _split_blocks(tokens: jax.Array, size: int) -> jax.Array:
    """Split `[B, N, F]` into `[ceil(N / size), B, size, F]`, the last block padded with zeros."""
    batch, count, features = tokens.shape
    blocks = -(-count // size)
    padded = jnp.pad(tokens, ((0, 0), (0, blocks * size - count), (0, 0)))
    return padded.reshape(batch, blocks, size, features).swapaxes(0, 1)


def _join_blocks(blocks: jax.Array, count: int) -> jax.Array:
    """Invert `_split_blocks` for `count` tokens."""
    number, batch, size, features = blocks.shape
    return blocks.swapaxes(0, 1).reshape(batch, number * size, features)[:, :count]


def _wide_einsum(subscripts: str, *operands: jax.Array) -> jax.Array:
    """Compute an einsum that accumulates in float32 at least."""
    dtype = jnp.promote_types(operands[0].dtype, jnp.float32)
    return jnp.einsum(subscripts, *operands, preferred_element_type=dtype)


def _one_after_another(function, shards, *images):
    """Call a function with as many images at a time as `CPU_SCORES` allows.

    Each of the devices that share the batch, `shards`, takes its own part.
    """
    batch, tokens = images[0].shape[:2]
    share = batch // shards
    most = max(1, CPU_SCORES // (BLOCK_TOKENS * tokens))
    together = max(count for count in range(1, min(share, most) + 1) if share % count == 0)
    steps = share // together
    if steps == 1:
        return function(*images)
    split = (x.reshape(shards, steps, together, *x.shape[1:]).swapaxes(0, 1) for x in images)
    groups = [x.reshape(steps, shards * together, *x.shape[3:]) for x in split]
    results = jax.lax.map(lambda group: function(*group), groups)
    split = (x.reshape(steps, shards, together, *x.shape[2:]).swapaxes(0, 1) for x in results)
    return tuple(x.reshape(batch, *x.shape[3:]) for x in split)


def _by_blocks(function, shards, query, *arguments):
    """Call a function with the `size` of the blocks that suits each platform."""
    batch, tokens = query.shape[:2]
    if tokens <= BLOCK_TOKENS:
        return function(query, *arguments, size=tokens)
    most = max(BLOCK_TOKENS, ACCELERATOR_SCORES // (batch * tokens))
    blocks = -(-tokens // most)
    on_cpu = functools.partial(function, size=BLOCK_TOKENS)
    return jax.lax.platform_dependent(
        query,
        *arguments,
        cpu=functools.partial(_one_after_another, on_cpu, shards),
        default=functools.partial(function, size=-(-tokens // blocks)),
    )


def _attend(query, key, value, size):
    """Return the output, and the log-sum-exp of each query's scores `[B, N, 1]`."""
    tokens = query.shape[1]

    def attend_block(queries):
        scores = _wide_einsum("bqf,bkf->bqk", queries, key)
        highest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        # Dividing the sums instead of the weights saves a pass over the scores.
        total = weights.sum(-1, keepdims=True)
        mixed = _wide_einsum("bqk,bkc->bqc", weights.astype(value.dtype), value)
        return (mixed / total).astype(value.dtype), highest + jnp.log(total)

    blocks = _split_blocks(query, size)
    if len(blocks) == 1:  # no loop
        return attend_block(blocks[0])
    out, log_total = jax.lax.map(attend_block, blocks)
    return _join_blocks(out, tokens), _join_blocks(log_total, tokens)


def whole_position_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Compute `position_attention` from all scores at once, `[B, N, N]`."""
    dtype = jnp.promote_types(value.dtype, jnp.float32)
    scores = jnp.matmul(query, key.swapaxes(1, 2), preferred_element_type=dtype)
    weights = jax.nn.softmax(scores, -1).astype(value.dtype)
    return jnp.matmul(weights, value, preferred_element_type=dtype).astype(value.dtype)


def position_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Compute unscaled softmax attention block by block.

    The forward pass works on blocks of queries, the backward pass on blocks of keys, so that on CPU
    at most `BLOCK_TOKENS * N` scores of a large image exist at once, and `CPU_SCORES` of several
    small ones. As in Dao et al., "FlashAttention", NeurIPS 2022, the backward pass recomputes the
    scores from each query's log-sum-exp.

    Args:
      query: `[B, N, features]`.
      key: `[B, N, features]`.
      value: `[B, N, channels]`.

    Returns:
      `softmax(query key^T) value`, `[B, N, channels]`, in the value's dtype.
    """
    return _position_attention(query, key, value, batch_shards())


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _position_attention(query, key, value, shards):
    return _by_blocks(_attend, shards, query, key, value)[0]


def _attention_forward(query, key, value, shards):
    out, log_total = _by_blocks(_attend, shards, query, key, value)
    return out, (query, key, value, out, log_total)


def _attention_backward(shards, residuals, gradient):
    return _by_blocks(_attention_gradients, shards, *residuals, gradient)


def _attention_gradients(query, key, value, out, log_total, gradient, size):
    """Return the gradients of query, key and value."""
    tokens = key.shape[1]
    wide = log_total.dtype
    log_total = log_total.swapaxes(1, 2)
    row_dots = _wide_einsum("bqc,bqc->bq", gradient.astype(wide), out.astype(wide))[:, None]

    def add_block(query_gradient, block):
        keys, values = block
        scores = _wide_einsum("bkf,bqf->bkq", keys, query)
        # No weight exceeds 1. The minimum also bounds those of the keys that pad the last block.
        weights = jnp.exp(jnp.minimum(scores - log_total, 0))
        value_gradient = _wide_einsum("bkq,bqc->bkc", weights.astype(gradient.dtype), gradient)
        weight_gradient = _wide_einsum("bkc,bqc->bkq", values, gradient)
        score_gradient = (weights * (weight_gradient - row_dots)).astype(query.dtype)
        key_gradient = _wide_einsum("bkq,bqf->bkf", score_gradient, query)
        query_gradient += _wide_einsum("bkf,bkq->bfq", keys, score_gradient)
        return query_gradient, (key_gradient.astype(key.dtype), value_gradient.astype(value.dtype))

    # Transposed, `[B, features, N]`: XLA's CPU backend sums over rows at a fifth of the rate.
    nothing = jnp.zeros(query.swapaxes(1, 2).shape, wide)
    if tokens == size:  # no loop
        query_gradient, (key_gradient, value_gradient) = add_block(nothing, (key, value))
    else:
        query_gradient, gradient_blocks = jax.lax.scan(
            add_block, nothing, (_split_blocks(key, size), _split_blocks(value, size))
        )
        key_gradient, value_gradient = (_join_blocks(part, tokens) for part in gradient_blocks)
    return query_gradient.swapaxes(1, 2).astype(query.dtype), key_gradient, value_gradient


_position_attention.defvjp(_attention_forward, _attention_backward)


def _append_key_bias(query, key, mask):
    """Append a feature that removes masked keys (`mask` False) from the softmax."""
    query = jnp.concatenate([query, jnp.ones_like(query[..., :1])], -1)
    bias = jnp.where(mask, 0, -1e9)[:, None] * jnp.ones_like(key[..., :1])
    return query, jnp.concatenate([key, bias.astype(key.dtype)], -1)


class TSSA(nnx.Module):
    """Token statistics self-attention on the pixels of a feature map.

    See `token_statistics_attention`.

    Args:
      features: channels C, a multiple of `heads`.
      heads: number of channel groups that compete for each token.
      dropout: rate of dropout on the output in training (`proj_drop` in the original, where it
        is 0).
      dtype: dtype of the projections; the statistics are float32 at least.
      rngs: stream `params`, and stream `dropout` if that rate is not 0.
    """

    def __init__(self, features: int, *, heads=8, dropout=0.0, dtype=jnp.float32, rngs: nnx.Rngs):
        if features % heads:
            raise ValueError(f"TSSA needs heads that divide {features} features, but got {heads}")
        draw_kernel = functools.partial(kernel_init, shape=(features, features), dtype=jnp.float32)
        self.projection = nnx.Param(draw_kernel(rngs.params()))
        self.temperature = nnx.Param(constant((heads, 1), 1))
        self.output_kernel = nnx.Param(draw_kernel(rngs.params()))
        self.output_bias = nnx.Param(bias_init(rngs.params(), (features, features)))
        self.dropout = regularization.dropout(dropout, rngs)
        self.heads = heads
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, C]` to the same shape."""
        batch, height, width, features = x.shape
        mask = image_mask((height, width)).reshape(-1) if is_on_canvas() else None
        tokens = mask_outside(x).astype(self.dtype).reshape(batch, height * width, features)
        w = channel_product(tokens, self.projection[...].astype(self.dtype))
        w = w.astype(jnp.promote_types(self.dtype, jnp.float32)).reshape(
            batch, height * width, self.heads, -1
        )
        mixed = token_statistics_attention(w, self.temperature[...], mask).astype(self.dtype)
        mixed = mixed.reshape(batch, height * width, features)
        out = channel_product(mixed, self.output_kernel[...].astype(self.dtype))
        out = self.dropout(out + self.output_bias[...].astype(self.dtype))
        return out.reshape(x.shape)


class PositionAttention(nnx.Module):
    """Attention of every pixel to every pixel, added to the input with a learned weight.

    Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, as in TransAttUnet. The
    weight `gamma` starts at 0. Query and key have an eighth of the channels.

    Args:
      features: channels C, at least 8.
      dtype: dtype of the projections; scores and softmax are float32 at least.
      rngs: stream `params`.
    """

    def __init__(self, features: int, *, dtype=jnp.float32, rngs: nnx.Rngs):
        conv1x1 = functools.partial(
            Conv, features, kernel_size=(1, 1), use_bias=True, dtype=dtype, rngs=rngs
        )
        self.query = conv1x1(out_features=features // 8)
        self.key = conv1x1(out_features=features // 8)
        self.value = conv1x1(out_features=features)
        self.gamma = nnx.Param(constant(1, 0))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, C]` to the same shape."""
        batch, height, width, _ = x.shape
        query, key, value = (
            layer(x).reshape(batch, height * width, -1)
            for layer in (self.query, self.key, self.value)
        )
        if is_on_canvas():
            query, key = _append_key_bias(query, key, image_mask((height, width)).reshape(-1))
        attend = whole_position_attention if takes_plain_forms() else position_attention
        out = attend(query, key, value).reshape(x.shape)
        return self.gamma[...].astype(self.dtype) * out + x.astype(self.dtype)
