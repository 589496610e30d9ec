"""The converter: exact round trips, what people's files look like, and what it refuses."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import torch
from flax import nnx

from eal_icnet_jax import checkpoints, convert, models
from eal_icnet_jax.errors import UserError
from tests import commands
from tests.golden import recipe


@pytest.fixture(scope="module")
def reference():
    """The recipe's weights, with counters that have counted."""
    state = recipe.state_dict("eal_icnet")
    return {
        key: np.asarray(1234567, np.int64) if key.endswith("num_batches_tracked") else value
        for key, value in state.items()
    }


def tensors(state):
    return {key: torch.tensor(value) for key, value in state.items()}


def assert_same(got, want):
    assert got.keys() == want.keys()
    for key, value in want.items():
        assert got[key].dtype == value.dtype, key
        np.testing.assert_array_equal(got[key], value, err_msg=key)


def test_round_trip_is_exact_and_complete(reference):
    model = convert.from_torch(reference)
    assert_same(convert.to_torch(model), reference)
    assert model.tssa.dropout.deterministic
    assert model.bn_prelu_1.bn.use_running_average


def test_channels_and_classes_are_read_off_the_weights():
    model = models.create_model("eal_icnet", in_channels=3, classes=2, rngs=nnx.Rngs(1))
    state = convert.to_torch(model)
    again = convert.from_torch(state)
    assert dict(again.spec.options) == {"in_channels": 3, "classes": 2}
    assert_same(convert.to_torch(again), state)


def test_other_depths_need_their_options():
    options = {"block_1_dilations": (2,), "block_2_dilations": (4, 8), "heads": 4}
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(1), **options)
    state = convert.to_torch(model)
    assert_same(convert.to_torch(convert.from_torch(state, **options)), state)
    with pytest.raises(UserError, match=r"missing key DAB_Block_1\.DAB_Module_1_1"):
        convert.from_torch(state)


def test_every_problem_is_told_at_once(reference):
    broken = dict(reference)
    del broken["PAM.gamma"]
    broken["extra.weight"] = np.zeros(3, np.float32)
    broken["PAM.key_conv.bias"] = np.zeros(5, np.float32)
    broken["bn_prelu_2.bn.bias"] = np.full(129, np.nan, np.float32)
    broken["bn_prelu_3.bn.num_batches_tracked"] = np.asarray(2**31)
    broken["AttentionTSSA.temp"] = np.zeros((8, 1), np.int32)
    with pytest.raises(UserError) as caught:
        convert.from_torch(broken)
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


WRAPPERS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "best": 0.1},
    "model": lambda state: {"model": state, "optimizer": {"lr": 1.0}},
    "DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "both": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_files_as_people_have_them(reference, tmp_path, wrapper):
    path = tmp_path / "weights.pth"
    torch.save(WRAPPERS[wrapper](tensors(reference)), path)
    model = convert.from_torch(convert.read_state_dict(path))
    assert_same(convert.to_torch(model), reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly(reference, tmp_path, dtype):
    halves = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in tensors(reference).items()
    }
    torch.save(halves, tmp_path / "half.pth")
    model = convert.from_torch(convert.read_state_dict(tmp_path / "half.pth"))
    wide = {k: (v.float() if v.is_floating_point() else v).numpy() for k, v in halves.items()}
    assert_same(convert.to_torch(model), wide)


def test_tensors_saved_on_a_gpu_load_without_one(reference, tmp_path):
    """A file as a GPU writes it: the device's name stands in the pickle beside each storage."""
    plain, gpu = tmp_path / "cpu.pth", tmp_path / "gpu.pth"
    torch.save(tensors(reference), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(gpu, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename.endswith("data.pkl"):
                named = b"X\x03\x00\x00\x00cpu"
                assert named in data
                data = data.replace(named, b"X\x06\x00\x00\x00cuda:0")
            target.writestr(item, data)
    assert_same(convert.to_torch(convert.from_torch(convert.read_state_dict(gpu))), reference)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("content", ["hostile", "module", "tensor", "list", "garbage", "empty"])
def test_files_that_are_not_weights_are_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pth"
    if content == "garbage":
        path.write_bytes(b"\x80\x02not a pickle")
    elif content == "empty":
        path.touch()
    elif content == "hostile":
        path.write_bytes(pickle.dumps({"a": Hostile()}))
    else:
        things = {"module": torch.nn.Conv2d(1, 1, 1), "tensor": torch.zeros(2), "list": [1]}
        torch.save(things[content], path)
    with pytest.raises(UserError, match=r"bad\.pth (is not a file of weights|holds a)") as caught:
        convert.read_state_dict(path)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "executed").exists()


def test_other_things_beside_the_weights_are_told(reference, tmp_path):
    torch.save({**tensors(reference), "epoch": 3}, tmp_path / "mixed.pth")
    with pytest.raises(UserError, match="holds more than weights, under 'epoch'"):
        convert.read_state_dict(tmp_path / "mixed.pth")


def test_safetensors_both_ways_without_torch(reference, tmp_path):
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    safetensors.numpy.save_file(reference, source)
    for argv in (
        ("from-torch", source, tmp_path / "model"),
        ("to-torch", tmp_path / "model", target),
    ):
        result = commands.run("convert", *argv, without=["torch"])
        assert result.returncode == 0, result.stderr
    assert_same(safetensors.numpy.load_file(target), reference)


def test_pth_both_ways(reference, tmp_path):
    torch.save(tensors(reference), tmp_path / "in.pth")
    convert.main(["from-torch", str(tmp_path / "in.pth"), str(tmp_path / "model")])
    convert.main(["to-torch", str(tmp_path / "model"), str(tmp_path / "out.pth")])
    loaded = torch.load(tmp_path / "out.pth", weights_only=True)
    assert_same({key: value.numpy() for key, value in loaded.items()}, reference)


def test_pth_without_torch_says_what_to_install(tmp_path):
    (tmp_path / "in.pth").touch()
    result = commands.run(
        "convert", "from-torch", tmp_path / "in.pth", tmp_path / "model", without=["torch"]
    )
    assert result.returncode == 1
    assert "reading in.pth needs torch: pip install" in result.stderr
    assert "Traceback" not in result.stderr


def failure(capsys, *argv):
    with pytest.raises(SystemExit) as caught:
        convert.main([str(a) for a in argv])
    assert caught.value.code == 1
    return capsys.readouterr().err


def test_outputs_are_never_overwritten_unasked(reference, tmp_path, capsys):
    """--force replaces a checkpoint, and never a folder that is something else."""
    source, model, folder = tmp_path / "in.safetensors", tmp_path / "model", tmp_path / "folder"
    safetensors.numpy.save_file(reference, source)
    convert.main(["from-torch", str(source), str(model)])
    assert "model exists: name another output" in failure(capsys, "from-torch", source, model)
    marker = model / "of the first"
    marker.touch()
    convert.main(["from-torch", str(source), str(model), "--force"])
    assert not marker.exists()
    folder.mkdir()
    (folder / "precious").touch()
    error = failure(capsys, "from-torch", source, folder, "--force")
    assert "folder exists and is no checkpoint" in error
    assert list(folder.iterdir()) == [folder / "precious"]
    assert "in.safetensors exists" in failure(capsys, "to-torch", model, source)


def test_nothing_is_written_unless_all_is_right(reference, tmp_path, capsys):
    source, model = tmp_path / "in.safetensors", tmp_path / "model"
    del (broken := dict(reference))["PAM.gamma"]
    safetensors.numpy.save_file(broken, source)
    assert "missing key PAM.gamma" in failure(capsys, "from-torch", source, model)
    assert "--options must be" in failure(capsys, "from-torch", source, model, "--options=[1]")
    assert "unknown model 'x'" in failure(capsys, "from-torch", source, model, "--model=x")
    source.write_bytes(b"\xff" * 100)
    assert "is not a safetensors file" in failure(capsys, "from-torch", source, model)
    assert "is not a file" in failure(capsys, "from-torch", tmp_path / "none.pth", model)
    assert list(tmp_path.iterdir()) == [source]


def test_a_checkpoint_of_another_model_is_told(tmp_path):
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(0), block_1_dilations=(2,))
    checkpoints.save_model(tmp_path / "model", model)
    with pytest.raises(UserError, match="is of another model than eal_icnet"):
        checkpoints.load_model(tmp_path / "model", block_1_dilations=(2, 2))
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoints.load_model(tmp_path)


def test_a_damaged_checkpoint_is_told(tmp_path):
    """Arrays cut short, and metadata that is no JSON: one sentence and nothing else."""
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(0))
    checkpoints.save_model(tmp_path / "model", model)
    argv = ("convert", "to-torch", tmp_path / "model", tmp_path / "out.safetensors")
    largest = max((tmp_path / "model/model").rglob("*"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    largest.write_bytes(whole[: len(whole) // 2])
    result = commands.run(*argv)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "model is damaged, use another" in line
    largest.write_bytes(whole)
    (tmp_path / "model/metadata/metadata").write_text("{")
    assert "model is damaged, use another" in commands.told(*argv)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_trained_checkpoint_converts_and_comes_back(workdir, tmp_path):
    """Training's checkpoint to PyTorch's names and back gives a checkpoint of the same weights."""
    convert.main(["to-torch", str(workdir), str(tmp_path / "trained.safetensors")])
    options = '{"block_1_dilations": [2], "block_2_dilations": [4]}'
    convert.main([
        "from-torch", str(tmp_path / "trained.safetensors"), str(tmp_path / "model"),
        "--options", options,
    ])  # fmt: skip
    first, second = (checkpoints.load_model(path) for path in (workdir, tmp_path / "model"))
    assert_same(convert.to_torch(second), convert.to_torch(first))


def test_an_encoder_trained_on_colour_images(tmp_path, capsys):
    """VGG-16 under torchvision's names, its classifier with it, for grey images."""
    fresh = convert.to_torch(models.blank_model("fcn", in_channels=3))
    prefix = "pretrained_net."
    rng = np.random.default_rng(0)
    vgg = {
        key.removeprefix(prefix): rng.random(value.shape, np.float32)
        for key, value in fresh.items()
        if key.startswith(prefix)
    }
    vgg["classifier.6.bias"] = np.zeros(1000, np.float32)
    safetensors.numpy.save_file(vgg, tmp_path / "vgg16.safetensors")
    arguments = ["from-torch", str(tmp_path / "vgg16.safetensors"), str(tmp_path / "out")]
    convert.run(convert.parser().parse_args([*arguments, "--model=fcn", "--encoder-weights"]))
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "pretrained_net.features.0.weight is fitted from 3 channels to 1"
    assert told[1].endswith("arrays are drawn anew, bn1.bias first")
    assert told[2].startswith("1 arrays belong elsewhere and are left out, ")
    got = convert.to_torch(checkpoints.load_model(tmp_path / "out"))
    stem = vgg.pop("features.0.weight")
    np.testing.assert_allclose(
        got[prefix + "features.0.weight"], stem.sum(1, keepdims=True), rtol=1e-6
    )
    del vgg["classifier.6.bias"]
    assert_same({key: got[prefix + key] for key in vgg}, vgg)
    assert np.ptp(got["deconv1.weight"]) > 0


def test_weights_for_other_classes_keep_all_but_the_head():
    """As a network trained on another dataset, under a wrapper's prefix."""
    other = models.create_model("contextnet", classes=5, rngs=nnx.Rngs(1))
    state = {f"module.{key}": value for key, value in convert.to_torch(other).items()}
    model, told = convert.from_pretrained(state, "contextnet", rngs=nnx.Rngs(2))
    assert told == [
        "classifier.conv.1.bias is drawn anew, the weights are for 5",
        "classifier.conv.1.weight is drawn anew, the weights are for 5x128x1x1",
    ]
    got = convert.to_torch(model)
    del got["classifier.conv.1.bias"], got["classifier.conv.1.weight"]
    assert_same(got, {key: state[f"module.{key}"] for key in got})


def test_weights_of_another_network_are_refused(reference):
    with pytest.raises(UserError, match="not weights of contextnet or its encoder"):
        convert.from_pretrained(reference, "contextnet", rngs=nnx.Rngs(0))
