"""A chain of equal blocks as one loop."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers.batch_sharding import batch_shards
from eal_icnet_jax.layers.normalization import BatchNorm
from eal_icnet_jax.layers.plain_forms import takes_plain_forms
from eal_icnet_jax.system.errors import UserError


def scan_blocks(blocks: Sequence[nnx.Module], x: jax.Array) -> jax.Array:
    """Apply blocks one after another with `jax.lax.scan`.

    The loop's body is compiled once, and the output of each block is kept in memory. When the
    blocks are unrolled instead, XLA's CPU backend recomputes the sum of a chain of residual blocks
    for every operation that reads it.

    Args:
      blocks: modules that differ only in their arrays and draw no random numbers.
      x: input of the first block, an array of the shape and dtype that every block returns.

    Returns:
      The output of the last block. In training mode the running statistics of the blocks'
      `BatchNorm` layers are updated.

    Raises:
      UserError: the batch is sharded over several processes on CPU. XLA orders collective
        operations there by their start only, and confuses those in a loop with other sums over the
        batch. Unrolled, an HRNet takes too long to compile.
    """
    if takes_plain_forms():
        return functools.reduce(lambda x, block: block(x), blocks, x)
    if batch_shards() > 1 and jax.process_count() > 1 and jax.default_backend() == "cpu":
        raise UserError(
            "this network does not train in several processes on CPU, where XLA mixes up what its "
            "loops exchange: train it in one process, or on GPUs"
        )
    graphdef, states = nnx.graphdef(blocks[0]), [nnx.state(block) for block in blocks]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def body(x, state):
        block = nnx.merge(graphdef, state)
        return block(x), nnx.state(block, nnx.BatchStat)

    out, statistics = jax.lax.scan(body, x, stacked)
    layers = (layer for _, layer in nnx.iter_graph(blocks[0]))
    if any(isinstance(layer, BatchNorm) and not layer.use_running_average for layer in layers):
        for k, block in enumerate(blocks):
            nnx.update(block, jax.tree.map(lambda leaf, k=k: leaf[k], statistics))
    return out
