"""Files of PyTorch weights as people have them, and what is refused."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import torch

from eal_icnet_jax.models import torch_files
from eal_icnet_jax.system.errors import UserError
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


WRAPPERS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "best": 0.1},
    "model": lambda state: {"model": state, "optimizer": {"lr": 1.0}},
    "nested": lambda state: {"state_dict": {"model": state}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_weights_are_found_in_what_people_save(state, tmp_path, wrapper):
    path = tmp_path / "weights.pth"
    torch.save(WRAPPERS[wrapper](tensors(state)), path)
    assert_equal(torch_files.read_state_dict(path), state)


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


def test_what_is_beside_the_weights_is_named(state, tmp_path):
    torch.save({**tensors(state), "epoch": 3}, tmp_path / "mixed.pth")
    with pytest.raises(UserError, match="holds more than weights, under 'epoch'"):
        torch_files.read_state_dict(tmp_path / "mixed.pth")


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_written_weights_are_read_back(state, tmp_path, name):
    torch_files.write_state_dict(tmp_path / name, state)
    assert_equal(torch_files.read_state_dict(tmp_path / name), state)
    if name.endswith(".pth"):
        loaded = torch.load(tmp_path / name, weights_only=True)
        assert_equal({key: value.numpy() for key, value in loaded.items()}, state)
    else:
        assert_equal(safetensors.numpy.load_file(tmp_path / name), state)


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_a_file_that_cannot_be_written_is_reported(state, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"file/{name} cannot be written"):
        torch_files.write_state_dict(tmp_path / "file" / name, state)
