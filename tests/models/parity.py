"""Helpers of the parity tests of all networks."""

import contextlib

import jax
import numpy as np
from flax import nnx

from eal_icnet_jax.models import torch_weights
from tests.golden import recipe


def images(*shape):
    """Return the recipe's images of an NCHW shape, as NHWC."""
    return recipe.images(shape).transpose(0, 2, 3, 1)


def targets(*shape):
    """Return the recipe's targets of an NCHW shape, as NHWC."""
    return recipe.targets(shape).transpose(0, 2, 3, 1)


def reference_model(name, **options):
    """Return a network with the recipe's weights."""
    return torch_weights.from_torch(recipe.state_dict(name), name, **options)


@nnx.jit
def forward(model, x):
    return model(x)


def assert_logits(logits, golden, tolerance=1e-4, every=1):
    """Logits differ from the golden ones by at most the tolerance times their range.

    The golden ones may hold only every n-th pixel (`every`).
    """
    logits = np.asarray(logits).transpose(0, 3, 1, 2)[:, :, ::every, ::every]
    np.testing.assert_allclose(logits, golden, rtol=0, atol=tolerance * np.ptp(golden))


def gradient_norms(model, gradients, keys):
    """Return the L2 norms of the gradients in the order of PyTorch's `keys`."""
    model = nnx.clone(model)
    nnx.update(model, gradients)
    variables = torch_weights.torch_variables(model)
    return np.array([np.linalg.norm(variables[key][0][...]) for key in keys])


@contextlib.contextmanager
def reference_model_in_float64(name):
    """Yield a `reference_model` with weights and computation in float64, in JAX's x64 mode."""
    jax.config.update("jax_enable_x64", True)
    try:
        model = reference_model(name, dtype="float64")
        state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
        double = {np.dtype("f4"): "f8"}
        nnx.update(model, jax.tree.map(lambda a: a.astype(double.get(a.dtype, a.dtype)), state))
        yield model
    finally:
        jax.config.update("jax_enable_x64", False)
