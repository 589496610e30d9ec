"""Equal blocks one after another, as one loop."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from eal_icnet_jax.errors import UserError
from eal_icnet_jax.layers.normalization import BatchNorm
from eal_icnet_jax.layers.sharing import sharing


def in_turn(blocks: Sequence[nnx.Module], x: jax.Array) -> jax.Array:
    """`x` through blocks that differ in nothing but their arrays, and draw no random numbers.

    The loop's body is compiled once, and each block's output is kept: unrolled, XLA's CPU backend
    adds up a chain of residual blocks anew for everything that reads one of them.

    Raises:
      UserError: a batch is `shared_by` several processes on CPU. XLA orders there what processes
        exchange by its start alone, and so mixes what a loop exchanges with other sums over the
        batch; unrolled, an HRNet takes too long to compile.
    """
    if sharing() > 1 and jax.process_count() > 1 and jax.default_backend() == "cpu":
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
