"""PyTorch's weights become a model and come back bit for bit."""

import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.models import torch_weights, torch_wrappings
from eal_icnet_jax.system.errors import UserError
from tests.models import wrappings
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


@pytest.mark.parametrize("name", wrappings.NAMES)
def test_names_are_taken_out_of_their_wrappings(reference, name):
    given, _ = torch_wrappings.unwrapped(wrappings.NAMES[name](reference), reference.keys())
    assert_equal(given, reference)


@pytest.mark.parametrize("name", ["Lightning, one part compiled", "numbers beside"])
def test_both_ways_to_a_model_take_the_same_wrappings(reference, name):
    wrapped = wrappings.NAMES[name](reference)
    assert_equal(torch_weights.to_torch(torch_weights.from_torch(wrapped)), reference)
    model, notes = torch_weights.from_pretrained(wrapped, "eal_icnet", rngs=nnx.Rngs(0))
    assert_equal(torch_weights.to_torch(model), reference)
    assert notes == torch_weights.from_torch_with_notes(wrapped)[1]


@pytest.mark.parametrize(
    "name, note",
    [
        ("thop", "total_ops, total_params"),
        ("AveragedModel", "n_averaged"),
        ("numbers beside", "'epoch', 'best', 'loss' and 3 more"),
    ],
)
def test_what_is_no_weights_is_named_once(reference, name, note):
    _, notes = torch_wrappings.unwrapped(wrappings.NAMES[name](reference), reference.keys())
    assert notes == [f"beside the weights, these are left out: {note}"]


@pytest.mark.parametrize("wrap", [dict, wrappings.NAMES["Lightning"]])
def test_absent_counters_are_zero(reference, wrap):
    old = wrap(wrappings.without_counters(reference))
    model, notes = torch_weights.from_torch_with_notes(old)
    assert notes == ["71 counters num_batches_tracked are absent, as in old files, and become 0"]
    zero = {k: v * 0 if k.endswith("_tracked") else v for k, v in reference.items()}
    assert_equal(torch_weights.to_torch(model), zero)
    assert torch_weights.from_pretrained(old, "eal_icnet", rngs=nnx.Rngs(0))[1] == notes


def test_a_component_of_the_network_itself_stays():
    """All names begin with "model." and one goes on with "module.", as wrappers do too."""
    names = {"model.a.weight", "model.module.b.weight"}
    for given in (names, {f"model.{name}" for name in names}):
        state = dict.fromkeys(given, np.ones(1))
        assert torch_wrappings.unwrapped(state, names)[0].keys() == names


def test_names_that_would_become_the_same_stay():
    state = {"a.weight": np.ones(1), "module.a.weight": np.zeros(1)}
    assert torch_wrappings.unwrapped(state, {"a.weight"})[0].keys() == state.keys()


def test_other_depths_need_their_options():
    options = {"block_1_dilations": (2,), "block_2_dilations": (4, 8), "heads": 4}
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(1), **options)
    state = torch_weights.to_torch(model)
    assert_equal(torch_weights.to_torch(torch_weights.from_torch(state, **options)), state)
    with pytest.raises(UserError, match=r"missing key DAB_Block_1\.DAB_Module_1_1"):
        torch_weights.from_torch(state)


@pytest.mark.parametrize("value", [3, "text"])
def test_something_else_than_an_array_for_the_first_layer_is_refused(reference, value):
    with pytest.raises(UserError, match=r"init_conv\.0\.conv\.weight"):
        torch_weights.from_torch({**reference, "init_conv.0.conv.weight": value})


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
        "the weights do not fit model eal_icnet with classes=1, in_channels=1 (1 of 497 keys "
        "missing, 1 unexpected, 1 of another shape, 2 of another type, 1 not finite): name the "
        "network with --model and its options with --options",
        "  missing key PAM.gamma",
        "  unexpected key extra.weight",
        "  wrong shape of PAM.key_conv.bias: expected (16,), found (5,)",
        "  wrong dtype of AttentionTSSA.temp: expected floating point, found int32",
        "  bn_prelu_3.bn.num_batches_tracked must be an integer from 0 to 2147483647, "
        "found 2147483648",
        "  non-finite values in bn_prelu_2.bn.bias: 129 of 129",
    ]


def refusal(state, model="eal_icnet", **options) -> list[str]:
    with pytest.raises(UserError) as caught:
        torch_weights.from_torch(state, model, **options)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 10
    return lines


FITS = "the weights do not fit model eal_icnet with classes=1, in_channels=1 "
NAME_IT = "name the network with --model and its options with --options"
SAVE_IT_ALONE = f"save the network's state_dict() alone, or {NAME_IT}"


def test_many_misfits_are_counted(reference):
    """Some of each kind are listed."""
    renamed = {f"x{k}" if k.endswith(".weight") else k: v for k, v in reference.items()}
    renamed["PAM.key_conv.bias"] = np.zeros(5, np.float32)
    lines = refusal(renamed)
    count = sum(key.endswith(".weight") for key in reference)
    assert lines[0] == (
        f"{FITS}({count} of 497 keys missing, {count} unexpected, 1 of another shape): {NAME_IT}"
    )
    kinds = [line.split()[0] for line in lines[1:]]
    assert kinds == ["missing"] * 4 + ["unexpected"] * 3 + ["wrong", "..."]
    assert lines[-1] == f"  ... and {2 * count - 7} more"
    lines = refusal({k: np.zeros((*v.shape, 2), np.float32) for k, v in reference.items()})
    assert lines[0].startswith(f"{FITS}(497 of another shape): name its options with --options, or")
    assert lines[-1] == "  ... and 489 more"
    lines = refusal({k: v * np.float32("nan") if v.ndim else v for k, v in reference.items()})
    assert (
        lines[0] == f"{FITS}(426 not finite): save weights that are finite floating-point numbers"
    )
    assert lines[-1] == "  ... and 418 more"


@pytest.mark.parametrize(
    "wrap, other", [("Lightning, compiled, own", "unet"), ("thop, DataParallel", "letnet")]
)
def test_weights_of_another_network_are_recognized(reference, wrap, other):
    state = wrappings.NAMES[wrap](counted_state_dict(other))
    assert refusal(state) == [f"{FITS}(these are weights of {other}): name --model={other}"]


def test_widths_tell_networks_of_the_same_names_apart():
    (line,) = refusal(counted_state_dict("hrnet_w18"), "hrnet_w48")
    assert line.endswith("(these are weights of hrnet_w18): name --model=hrnet_w18")


def test_weights_of_an_encoder_are_recognized():
    """Under their own names, and under those that they have in the network."""
    expected = torch_weights.to_torch(models.blank_model("fcn", in_channels=3))
    inside = {k: v for k, v in expected.items() if k.startswith("pretrained_net.")}
    for state in (inside, {k.removeprefix("pretrained_net."): v for k, v in inside.items()}):
        (line,) = refusal(state, "fcn")
        assert line.endswith("(these are weights of its encoder alone): add --encoder-weights")


def test_the_beginnings_of_foreign_names_are_reported():
    foreign = {f"foo.layer{n}.weight": np.zeros(1, np.float32) for n in range(20)}
    first, *_, last = refusal(foreign)
    assert first == f"{FITS}(all 20 keys begin with 'foo.', none is one of its names): {NAME_IT}"
    assert last == "  ... and 509 more"
    foreign["bar.weight"] = np.zeros(1, np.float32)
    assert refusal(foreign)[0] == (
        f"{FITS}(none of the 21 keys is one of its names, they begin with 'foo.' (20) and 'bar.' "
        f"(1)): {SAVE_IT_ALONE}"
    )
    assert refusal({"foo.weight": np.zeros(1, np.float32)})[0] == (
        f"{FITS}(their only key, 'foo.weight', is none of its names): {NAME_IT}"
    )
    assert refusal({"epoch": 3, "model": foreign}) == [
        f"{FITS}(there are no arrays among them): give a network's state_dict()"
    ]


def test_two_networks_side_by_side_are_reported(reference):
    both = {**wrappings.prefixed("student")(reference), **wrappings.prefixed("ema")(reference)}
    assert refusal(both)[0] == (
        f"{FITS}(none of the 994 keys is one of its names, they begin with 'student.' (497) and "
        f"'ema.' (497)): {SAVE_IT_ALONE}"
    )


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
    with pytest.raises(UserError, match="not weights of contextnet or its encoder") as caught:
        torch_weights.from_pretrained(reference, "contextnet", rngs=nnx.Rngs(0))
    assert str(caught.value).endswith("(these are weights of eal_icnet): name --model=eal_icnet")


def test_weights_that_are_not_finite_start_no_network(reference):
    broken = reference | {"PAM.gamma": np.full_like(reference["PAM.gamma"], np.nan)}
    with pytest.raises(UserError, match=r"non-finite values in PAM\.gamma: 1 of 1"):
        torch_weights.from_pretrained(broken, "eal_icnet", rngs=nnx.Rngs(0))


def test_many_notes_and_many_bad_values_are_counted(reference):
    doubled = {k: np.concatenate([v, v]) if v.ndim == 1 else v for k, v in reference.items()}
    _, notes = torch_weights.from_pretrained(doubled, "eal_icnet", rngs=nnx.Rngs(0))
    count = sum(value.ndim == 1 for value in reference.values())
    assert len(notes) == 10 and notes[-1] == f"... and {count - 9} more"
    bad = {k: np.full_like(v, np.nan) if v.ndim == 1 else v for k, v in reference.items()}
    with pytest.raises(UserError) as caught:
        torch_weights.from_pretrained(bad, "eal_icnet", rngs=nnx.Rngs(0))
    lines = str(caught.value).splitlines()
    assert len(lines) == 10 and lines[0].startswith(
        f"the weights cannot be used ({count} not finite): "
    )
