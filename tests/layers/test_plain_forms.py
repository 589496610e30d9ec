"""The forms that are exported compute what the fast ones do."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax.layers import ConvBN, avg_pool_3x3, scan_blocks
from eal_icnet_jax.layers.plain_forms import plain_forms
from tests import small_model


def operations(function, *arguments) -> set[str]:
    """Return the names of the operations that a function consists of."""
    return {
        equation.primitive.name
        for equation in jax.make_jaxpr(function)(*arguments).jaxpr.eqns
    }  # fmt: skip


def plain(function):
    def call(*arguments):
        with plain_forms():
            return function(*arguments)

    return call


def test_a_network_computes_the_same():
    model = small_model.create(in_channels=1, classes=1)
    x = np.random.default_rng(0).random((2, 64, 96, 1), np.float32)
    fast, exported = jax.jit(model)(x), jax.jit(plain(model))(x)
    np.testing.assert_allclose(exported, fast, atol=2e-6 * np.ptp(fast))
    assert not operations(plain(model), x) & {"cond", "scan", "while", "reduce_window_sum"}


def test_scanned_blocks_and_pooling_compute_the_same():
    blocks = [ConvBN(16, 16, (3, 3), dtype=jnp.float32, rngs=nnx.Rngs(k)) for k in range(3)]
    for block in blocks:
        block.eval()
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 13, 10, 16)), jnp.float32)

    def scanned(x):
        return avg_pool_3x3(scan_blocks(blocks, x))

    np.testing.assert_allclose(plain(scanned)(x), scanned(x), atol=1e-5)
    assert "scan" in operations(scanned, x) and "scan" not in operations(plain(scanned), x)
