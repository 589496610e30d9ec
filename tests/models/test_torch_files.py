"""Files of PyTorch weights as people have them, and what is refused."""

import argparse
import os
import pathlib
import pickle
import zipfile
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
import torch

from eal_icnet_jax.models import torch_files
from eal_icnet_jax.system.errors import UserError
from tests.models import wrappings
from tests.state_dicts import assert_equal


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.standard_normal((4, 3, 2, 2)).astype(np.float32),
        "bn.bias": rng.standard_normal(4).astype(np.float32),
        "bn.num_batches_tracked": np.asarray(1234567, np.int64),
    }


def tensors(state):
    return {key: torch.tensor(value) for key, value in state.items()}


@pytest.mark.parametrize("name", wrappings.CONTAINERS)
@pytest.mark.parametrize("new", [True, False])
def test_weights_are_found_in_what_people_save(state, tmp_path, name, new):
    """What else is in the file is named in one sentence."""
    wrap, others = wrappings.CONTAINERS[name]
    path = tmp_path / "weights.pth"
    torch.save(wrap(tensors(state)), path, _use_new_zipfile_serialization=new)
    found, notes = torch_files.read_with_notes(path)
    assert_equal(found, state)
    assert_equal(torch_files.read_state_dict(path), state)
    listed = ", ".join(map(repr, others[:3])) + (" and 1 more" if len(others) > 3 else "")
    assert notes == ([f"beside the weights, these are left out: {listed}"] if others else [])


def test_a_checkpoint_of_lightning_is_read(state, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(wrappings.lightning(tensors(state)), path)
    found, (note,) = torch_files.read_with_notes(path)
    assert_equal(found, {f"model.{key}": value for key, value in state.items()})
    assert note == (
        "beside the weights, these are left out: 'epoch', 'global_step', "
        "'pytorch-lightning_version' and 6 more"
    )


@pytest.mark.parametrize("averaged", ["model_ema", "ema", "ema_state_dict", "swa_model"])
def test_averaged_weights_are_taken_only_if_there_are_no_others(state, tmp_path, averaged):
    other = {key: value + 1 for key, value in tensors(state).items()}
    torch.save({averaged: other, "model": tensors(state), "epoch": 3}, tmp_path / "both.pth")
    found, notes = torch_files.read_with_notes(tmp_path / "both.pth")
    assert_equal(found, state)
    assert notes == [
        f"the weights under 'model' are taken, not those under '{averaged}'",
        "beside the weights, these are left out: 'epoch'",
    ]


def test_averaged_weights_beside_bare_ones_are_passed_over(state, tmp_path):
    torch.save({**tensors(state), "ema": tensors(state)}, tmp_path / "both.pth")
    found, notes = torch_files.read_with_notes(tmp_path / "both.pth")
    assert_equal(found, state)
    assert notes == ["the weights at the top are taken, not those under 'ema'"]


@pytest.mark.parametrize("names", [("generator", "critic"), ("model", "net"), ("ema", "swa")])
def test_several_state_dicts_are_not_chosen_from(state, tmp_path, names):
    content = {name: {k: v + n for k, v in tensors(state).items()} for n, name in enumerate(names)}
    torch.save(content, tmp_path / "two.pth")
    with pytest.raises(UserError) as caught:
        torch_files.read_state_dict(tmp_path / "two.pth")
    assert str(caught.value) == (
        f"{tmp_path / 'two.pth'} holds several state_dicts (under '{names[0]}', under "
        f"'{names[1]}'): save the one that you mean alone with torch.save"
    )


def test_the_same_state_dict_under_two_names_is_one(state, tmp_path):
    torch.save(dict.fromkeys(("model", "net"), tensors(state)), tmp_path / "same.pth")
    assert_equal(torch_files.read_state_dict(tmp_path / "same.pth"), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly(state, tmp_path, dtype):
    halves = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in tensors(state).items()
    }
    torch.save(halves, tmp_path / "half.pth")
    wide = {k: (v.float() if v.is_floating_point() else v).numpy() for k, v in halves.items()}
    assert_equal(torch_files.read_state_dict(tmp_path / "half.pth"), wide)


def test_tensors_saved_on_a_gpu_load_without_one(state, tmp_path):
    """In a file from a GPU, the pickle names the device beside each storage."""
    plain, gpu = tmp_path / "cpu.pth", tmp_path / "gpu.pth"
    torch.save(tensors(state), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(gpu, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename.endswith("data.pkl"):
                named = b"X\x03\x00\x00\x00cpu"
                assert named in data
                data = data.replace(named, b"X\x06\x00\x00\x00cuda:0")
            target.writestr(item, data)
    assert_equal(torch_files.read_state_dict(gpu), state)


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
        contents = {"module": torch.nn.Conv2d(1, 1, 1), "tensor": torch.zeros(2), "list": [1]}
        torch.save(contents[content], path)
    with pytest.raises(UserError, match=r"bad\.pth (is not a file of weights|holds a)") as caught:
        torch_files.read_state_dict(path)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, {"optimizer": None}, {"a": np.ones(3)}, {}])
def test_a_file_without_weights_is_refused(tmp_path, content):
    if "optimizer" in content:
        content = {"optimizer": wrappings.optimizer_state()}
    torch.save(content, tmp_path / "no.pth")
    with pytest.raises(UserError) as caught:
        torch_files.read_state_dict(tmp_path / "no.pth")
    only = f", only {next(iter(content))!r}" if content else ""
    assert str(caught.value) == (
        f"{tmp_path / 'no.pth'} holds no weights{only}: save the model's state_dict() with "
        "torch.save"
    )


class Settings:
    """A class of someone's own code."""


@pytest.mark.parametrize(
    "beside, name",
    [
        (argparse.Namespace(lr=0.1), "argparse.Namespace"),
        (pathlib.PurePosixPath("runs"), "pathlib.PurePosixPath"),
        (Settings(), "tests.models.test_torch_files.Settings"),
    ],
)
def test_what_torch_refuses_is_named_in_one_sentence(state, tmp_path, beside, name):
    """Torch's own text is long, has escape codes, and advises to load the file unsafely."""
    path = tmp_path / "args.pth"
    torch.save({"model": tensors(state), "args": beside}, path)
    with pytest.raises(UserError) as caught:
        torch_files.read_state_dict(path)
    assert str(caught.value) == (
        f"{path} is not a file of weights that is safe to load (besides tensors and numbers it "
        f"holds {name}): save only the model's state_dict() with torch.save"
    )


def test_other_reasons_are_ours_too(state, tmp_path):
    path = tmp_path / "script.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # as torch.jit.save does
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{name}", bytes(1000))
    with pytest.raises(UserError, match=r"safe to load \(it is a TorchScript program\): save only"):
        torch_files.read_state_dict(path)
    torch.save(tensors(state), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(
        UserError, match=r"load \(it is damaged or not from torch\.save\): save only"
    ):
        torch_files.read_state_dict(path)
    torch.save({"a.weight": torch.eye(2).to_sparse()}, path)
    with pytest.raises(UserError, match=r"holds tensors that are not plain arrays, 'a\.weight' fi"):
        torch_files.read_state_dict(path)


def test_no_function_of_numpy_is_called(state, tmp_path, monkeypatch):
    """Values of NumPy have stand-ins, which also take what NumPy itself would refuse or obey."""
    path = tmp_path / "numpy.pth"
    torch.save({**tensors(state), "best": np.float64(0.5)}, path)
    for name in ("scalar", "_reconstruct"):
        monkeypatch.delattr(np._core.multiarray, name)
    before = set(torch.serialization.get_safe_globals())
    assert_equal(torch_files.read_state_dict(path), state)
    assert set(torch.serialization.get_safe_globals()) == before


def test_containers_within_containers_take_no_longer_than_the_file(tmp_path):
    """A dictionary that refers to the same dictionary many times, and one that holds itself."""
    content = {f"{n}": 0 for n in range(3)}
    for _ in range(5):
        content = {f"{n}": content for n in range(3000)}
    content["itself"] = content
    torch.save(content, tmp_path / "deep.pth")
    with pytest.raises(UserError, match=r"holds no weights, only '0', '1', '2' and 2998 more"):
        torch_files.read_state_dict(tmp_path / "deep.pth")


@pytest.mark.parametrize("name", ["out.pth", "out.PTH", "out.safetensors", "out.SAFETENSORS"])
def test_written_weights_are_read_back(state, tmp_path, name):
    torch_files.write_state_dict(tmp_path / name, state)
    assert_equal(torch_files.read_state_dict(tmp_path / name), state)
    if name.lower().endswith(".pth"):
        loaded = torch.load(tmp_path / name, weights_only=True)
        assert_equal({key: value.numpy() for key, value in loaded.items()}, state)
    else:
        assert_equal(safetensors.numpy.load_file(tmp_path / name), state)


@pytest.mark.parametrize("name", ["in.pth", "in.safetensors"])
def test_a_file_without_permission_is_not_called_damaged(tmp_path, monkeypatch, name):
    (tmp_path / name).touch()
    refused = mock.Mock(side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr(pathlib.Path, "open", refused)
    with pytest.raises(UserError, match=f"{name} cannot be read: Permission denied; name another"):
        torch_files.read_state_dict(tmp_path / name)


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_a_file_that_cannot_be_written_is_reported(state, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"file/{name} cannot be written"):
        torch_files.write_state_dict(tmp_path / "file" / name, state)
