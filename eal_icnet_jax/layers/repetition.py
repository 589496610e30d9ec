"""Equal blocks one after another, as one loop."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.layers.normalization import BatchNorm


def in_turn(blocks: Sequence[nnx.Module], x: jax.Array) -> jax.Array:
    """`x` through blocks that differ in nothing but their arrays, and draw no random numbers.

    The loop's body is compiled once, and each block's output is kept: unrolled, XLA's CPU backend
    adds up a chain of residual blocks anew for everything that reads one of them.
    """
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
