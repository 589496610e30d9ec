"""The networks are compared with PyTorch as users compile them."""

import os

import jax
import pytest


@pytest.fixture(autouse=True)
def all_optimizations():
    """Turn on LLVM's optimiser, without which HRNet and float64 take four times as long."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    off = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] not in ("0", "false")
    jax.config.update("jax_disable_most_optimizations", off)
