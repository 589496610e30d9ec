"""What the parity tests of all networks share."""

import contextlib

import jax
import numpy as np
from flax import nnx

from eal_icnet_jax import convert
from tests.golden import recipe


def images(*shape):
    """The recipe's images of an NCHW shape, as NHWC."""
    return recipe.images(shape).transpose(0, 2, 3, 1)


def targets(*shape):
    """The recipe's targets of an NCHW shape, as NHWC."""
    return recipe.targets(shape).transpose(0, 2, 3, 1)


def reference_model(name, **options):
    """A network with the recipe's weights."""
    return convert.from_torch(recipe.state_dict(name), name, **options)


@nnx.jit
def forward(model, x):
    return model(x)


def assert_logits(logits, golden, tolerance=1e-4, every=1):
    """Within the tolerance times the logits' range; the golden ones may keep every n-th pixel."""
    logits = np.asarray(logits).transpose(0, 3, 1, 2)[:, :, ::every, ::every]
    np.testing.assert_allclose(logits, golden, rtol=0, atol=tolerance * np.ptp(golden))


def gradient_norms(model, gradients, keys):
    """L2 norms of the gradients, in the order of PyTorch's `keys`."""
    model = nnx.clone(model)
    nnx.update(model, gradients)
    variables = convert.torch_variables(model)
    return np.array([np.linalg.norm(variables[key][0][...]) for key in keys])


@contextlib.contextmanager
def reference_model_in_float64(name):
    """`reference_model` whose weights and computation are float64, JAX's x64 mode meanwhile on."""
    jax.config.update("jax_enable_x64", True)
    try:
        model = reference_model(name, dtype="float64")
        state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
        double = {np.dtype("f4"): "f8"}
        nnx.update(model, jax.tree.map(lambda a: a.astype(double.get(a.dtype, a.dtype)), state))
        yield model
    finally:
        jax.config.update("jax_enable_x64", False)
