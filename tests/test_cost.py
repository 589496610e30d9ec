"""What networks cost is what PyTorch counts for the originals."""

import pytest

from eal_icnet_jax import cost, models
from tests.golden import recipe


@pytest.mark.parametrize("name", models.MODELS)
def test_parameters_and_operations(name):
    """LETNet's attention alone is written with fewer operations here, by half a thousandth."""
    model = models.blank_model(name)
    model.eval()
    known = recipe.manifest(name)
    assert cost.parameters(model) == known["parameters"]
    found = cost.operations(model, (1, 512, 512, 1)) / 1e9
    tolerance = 1e-3 if name == "letnet" else 1e-4
    assert found == pytest.approx(known["gflops_512"], rel=tolerance, abs=5e-4)


def test_operations_grow_with_the_batch_and_the_channels():
    def of(batch, channels):
        model = models.blank_model("unet", in_channels=channels)
        return cost.operations(model, (batch, 64, 64, channels))

    assert of(3, 1) == 3 * of(1, 1)
    assert of(1, 3) - of(1, 1) == 2 * (2 * 64 * 64 * 9 * 64)  # two more channels into 64


def test_a_training_mode_model_is_left_as_it_is():
    model = models.blank_model("hrnet_w18")
    before = int(model.conv1.bn.count[...])
    cost.operations(model, (1, 64, 64, 1))
    assert int(model.conv1.bn.count[...]) == before
