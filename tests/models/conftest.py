"""The networks are compared with PyTorch as users compile them, where that costs little time."""

import os

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def programs_of_its_own():
    """Forget a module's programs at its end: without the optimiser, others round differently."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def all_optimizations(request):
    """Turn on LLVM's optimiser for EAL-ICNet, and for HRNet and float64, which it speeds up most.

    The other networks compile in two thirds of the time without it.
    """
    name = request.node.name
    is_baseline = request.node.path.name == "test_baselines.py"
    disabled = is_baseline and "hrnet" not in name and "float64" not in name
    jax.config.update("jax_disable_most_optimizations", disabled)
    yield
    off = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] not in ("0", "false")
    jax.config.update("jax_disable_most_optimizations", off)
