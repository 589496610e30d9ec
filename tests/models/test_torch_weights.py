"""PyTorch's weights become a model and come back bit for bit."""

import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.models import torch_weights
from eal_icnet_jax.system.errors import UserError
from tests.state_dicts import assert_equal, counted_state_dict


@pytest.fixture(scope="module")
def reference():
    return counted_state_dict("eal_icnet")


def test_a_round_trip_is_exact_and_complete(reference):
    model = torch_weights.from_torch(reference)
    assert_equal(torch_weights.to_torch(model), reference)
    assert model.tssa.dropout.deterministic
    assert model.bn_prelu_1.bn.use_running_average


def test_channels_and_classes_are_read_off_the_weights():
    model = models.create_model("eal_icnet", in_channels=3, classes=2, rngs=nnx.Rngs(1))
    state = torch_weights.to_torch(model)
    again = torch_weights.from_torch(state)
    assert dict(again.spec.options) == {"in_channels": 3, "classes": 2}
    assert_equal(torch_weights.to_torch(again), state)


def test_the_prefix_of_data_parallel_training_is_dropped(reference):
    wrapped = {f"module.{key}": value for key, value in reference.items()}
    assert_equal(torch_weights.to_torch(torch_weights.from_torch(wrapped)), reference)


def test_other_depths_need_their_options():
    options = {"block_1_dilations": (2,), "block_2_dilations": (4, 8), "heads": 4}
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(1), **options)
    state = torch_weights.to_torch(model)
    assert_equal(torch_weights.to_torch(torch_weights.from_torch(state, **options)), state)
    with pytest.raises(UserError, match=r"missing key DAB_Block_1\.DAB_Module_1_1"):
        torch_weights.from_torch(state)


def test_every_misfit_is_reported_at_once(reference):
    broken = dict(reference)
    del broken["PAM.gamma"]
    broken["extra.weight"] = np.zeros(3, np.float32)
    broken["PAM.key_conv.bias"] = np.zeros(5, np.float32)
    broken["bn_prelu_2.bn.bias"] = np.full(129, np.nan, np.float32)
    broken["bn_prelu_3.bn.num_batches_tracked"] = np.asarray(2**31)
    broken["AttentionTSSA.temp"] = np.zeros((8, 1), np.int32)
    with pytest.raises(UserError) as caught:
        torch_weights.from_torch(broken)
    assert str(caught.value).splitlines() == [
        "the weights do not fit model eal_icnet with classes=1, in_channels=1 (6 problems):",
        "  missing key PAM.gamma",
        "  unexpected key extra.weight",
        "  wrong dtype of AttentionTSSA.temp: expected floating point, found int32",
        "  wrong shape of PAM.key_conv.bias: expected (16,), found (5,)",
        "  non-finite values in bn_prelu_2.bn.bias: 129 of 129",
        "  bn_prelu_3.bn.num_batches_tracked must be an integer from 0 to 2147483647, "
        "found 2147483648",
    ]


def test_an_encoder_trained_on_colour_images_starts_a_network_for_grey_images():
    """VGG-16 under torchvision's names, with its classifier."""
    fresh = torch_weights.to_torch(models.blank_model("fcn", in_channels=3))
    prefix = "pretrained_net."
    rng = np.random.default_rng(0)
    vgg = {
        key.removeprefix(prefix): rng.random(value.shape, np.float32)
        for key, value in fresh.items()
        if key.startswith(prefix)
    }
    vgg["classifier.6.bias"] = np.zeros(1000, np.float32)
    model, notes = torch_weights.from_pretrained(vgg, "fcn", rngs=nnx.Rngs(0))
    assert notes[0] == "pretrained_net.features.0.weight is adapted from 3 channels to 1"
    assert notes[1].endswith("arrays are initialised, bn1.bias first")
    assert notes[2].startswith("1 arrays belong elsewhere and are left out, ")
    weights = torch_weights.to_torch(model)
    stem = vgg.pop("features.0.weight")
    np.testing.assert_allclose(
        weights[prefix + "features.0.weight"], stem.sum(1, keepdims=True), rtol=1e-6
    )
    del vgg["classifier.6.bias"]
    assert_equal({key: weights[prefix + key] for key in vgg}, vgg)
    assert np.ptp(weights["deconv1.weight"]) > 0


def test_weights_for_other_classes_keep_all_but_the_head():
    """The weights come from a network trained on another dataset, under a wrapper's prefix."""
    other = models.create_model("contextnet", classes=5, rngs=nnx.Rngs(1))
    state = {f"module.{key}": value for key, value in torch_weights.to_torch(other).items()}
    model, notes = torch_weights.from_pretrained(state, "contextnet", rngs=nnx.Rngs(2))
    assert notes == [
        "classifier.conv.1.bias is initialised, because the weights have the shape 5",
        "classifier.conv.1.weight is initialised, because the weights have the shape 5x128x1x1",
    ]
    weights = torch_weights.to_torch(model)
    del weights["classifier.conv.1.bias"], weights["classifier.conv.1.weight"]
    assert_equal(weights, {key: state[f"module.{key}"] for key in weights})


def test_weights_of_another_network_are_refused(reference):
    with pytest.raises(UserError, match="not weights of contextnet or its encoder"):
        torch_weights.from_pretrained(reference, "contextnet", rngs=nnx.Rngs(0))


def test_weights_that_are_not_finite_start_no_network(reference):
    broken = reference | {"PAM.gamma": np.full_like(reference["PAM.gamma"], np.nan)}
    with pytest.raises(UserError, match=r"non-finite values in PAM\.gamma: 1 of 1"):
        torch_weights.from_pretrained(broken, "eal_icnet", rngs=nnx.Rngs(0))
