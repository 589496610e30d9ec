"""A small network with random weights, for tests that need no trained one."""

import pathlib

import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.models import checkpoints

OPTIONS = {"block_1_dilations": (2,), "block_2_dilations": (4, 8), "heads": 4}
"""EAL-ICNet with blocks of one and of two modules."""


def create(**options) -> nnx.Module:
    """Return a small EAL-ICNet in evaluation mode whose every branch contributes to the output."""
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(0), **OPTIONS, **options)
    rng = np.random.default_rng(0)
    for path, leaf in nnx.to_flat_state(nnx.state(model)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            positive = path[-1] == "var"
            noise = rng.random(leaf.shape) if positive else rng.standard_normal(leaf.shape)
            leaf[...] += np.float32(0.05) * noise.astype(np.float32)
    model.position_attention.gamma[...] = jnp.ones(1)  # is 0 at first
    model.eval()
    return model


def save(path: pathlib.Path, **options) -> pathlib.Path:
    """Save such a network as a checkpoint, and return its path."""
    checkpoints.save_model(path, create(**options))
    return path
