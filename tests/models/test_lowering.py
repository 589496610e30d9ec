"""What a GPU would run, read from the program that JAX lowers for it. No GPU is needed."""

import contextlib
import re
from collections import Counter

import jax
import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax.layers.plain_forms import plain_forms
from eal_icnet_jax.models import create_model, losses
from eal_icnet_jax.models.registry import MODELS

LOOPED = ("hrnet_w18", "hrnet_w48")
"""Networks with loops over equal blocks."""


def lowered(name: str, side: int, is_training=False, forms=contextlib.nullcontext) -> str:
    """Return the StableHLO that a network's logits, or its gradients in training, are for CUDA."""
    model = nnx.eval_shape(lambda: create_model(name, in_channels=1, classes=1, rngs=nnx.Rngs(0)))
    graphdef, *state = nnx.split(model, nnx.Param, ...)
    image = jax.ShapeDtypeStruct((2, side, side, 1), np.float32)

    def logits(weights, others, image):
        network = nnx.merge(graphdef, weights, others, copy=True)
        network.train() if is_training else network.eval()
        with forms():
            return network(image)

    def loss(weights, others, image):
        return losses.bce_dice_loss(logits(weights, others, image), image > 0.5)

    function = jax.jit(jax.grad(loss) if is_training else logits)
    return jax.export.export(function, platforms=["cuda"])(*state, image).mlir_module()


def operations(text: str) -> Counter:
    """Return how often a program calls each operation."""
    return Counter(re.findall(r"stablehlo\.(\w+)", text))


@pytest.mark.parametrize("is_training", [False, True])
def test_attention_is_no_loop_on_a_gpu(is_training):
    """All scores of a 512x512 image are one product there, not sixteen small ones."""
    text = lowered("eal_icnet", 512, is_training)
    assert not operations(text)["while"]
    assert re.search(r"dot_general .*tensor<2x4096x4096xf32>", text)


@pytest.mark.soak
@pytest.mark.parametrize("name", MODELS)
def test_networks_take_no_form_of_the_cpu(name):
    """No convolution is written as matrix products or as several convolutions, as it is on CPU."""
    found = operations(lowered(name, 256))
    plain = operations(lowered(name, 256, forms=plain_forms))
    assert (found["while"] > 0) == (name in LOOPED)
    if name not in LOOPED:  # a loop's body is there once
        assert found["dot_general"] == plain["dot_general"]
        assert 0 < found["convolution"] <= plain["convolution"]
