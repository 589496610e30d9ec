"""The cost of a network is what PyTorch counts for the original."""

import pytest

from eal_icnet_jax import models
from eal_icnet_jax.models import cost
from tests.golden import recipe


@pytest.mark.parametrize("name", models.MODELS)
def test_parameters_and_operations_are_those_of_the_original(name):
    """LETNet's attention takes half a thousandth fewer operations here."""
    model = models.blank_model(name)
    model.eval()
    known = recipe.manifest(name)
    assert cost.parameters(model) == known["parameters"]
    operations = cost.operations(model, (1, 512, 512, 1)) / 1e9
    tolerance = 1e-3 if name == "letnet" else 1e-4
    assert operations == pytest.approx(known["gflops_512"], rel=tolerance, abs=5e-4)


def test_operations_grow_with_the_batch_and_the_channels():
    def operations(batch, channels):
        model = models.blank_model("unet", in_channels=channels)
        return cost.operations(model, (batch, 64, 64, channels))

    one = operations(1, 1)
    assert operations(3, 1) == 3 * one
    assert operations(1, 3) - one == 2 * (2 * 64 * 64 * 9 * 64)  # two more channels into 64


def test_counting_changes_nothing_in_a_model_in_training_mode():
    model = models.blank_model("eal_icnet")
    before = int(model.bn_prelu_1.bn.count[...])
    cost.operations(model, (1, 64, 64, 1))
    assert int(model.bn_prelu_1.bn.count[...]) == before
