"""The command that converts PyTorch weights to a checkpoint and back."""

import sys

import numpy as np
import pytest
import safetensors.numpy
import torch

from eal_icnet_jax.models import checkpoints, torch_weights
from tests import cli
from tests.models import wrappings
from tests.state_dicts import assert_equal, counted_state_dict


@pytest.fixture(scope="module")
def reference():
    return counted_state_dict("eal_icnet")


@pytest.fixture
def source(reference, tmp_path):
    """The reference's weights as a file."""
    path = tmp_path / "in.safetensors"
    safetensors.numpy.save_file(reference, path)
    return path


def convert(*argv) -> str:
    """Run the command in this process; return what it prints."""
    result = cli.call("convert", *argv)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_safetensors_are_converted_both_ways_without_torch(reference, source, tmp_path):
    """By the command and by the module that does the same."""
    target = tmp_path / "out.safetensors"
    for command, *argv in (
        ("convert", "from-torch", source, tmp_path / "model"),
        ("convert.py", "to-torch", tmp_path / "model", target),
    ):
        result = cli.run(command, *argv, without=["torch"])
        assert result.returncode == 0, result.stderr
    assert "wrote " in result.stdout and "out.safetensors: eal_icnet" in result.stdout
    assert_equal(safetensors.numpy.load_file(target), reference)


def test_pytorch_files_are_converted_both_ways(reference, tmp_path):
    torch.save({k: torch.tensor(v) for k, v in reference.items()}, tmp_path / "in.pth")
    text = convert("from-torch", tmp_path / "in.pth", tmp_path / "model")
    assert "eal_icnet with classes=1, in_channels=1" in text
    convert("to-torch", tmp_path / "model", tmp_path / "out.pth")
    loaded = torch.load(tmp_path / "out.pth", weights_only=True)
    assert_equal({key: value.numpy() for key, value in loaded.items()}, reference)


def test_a_pytorch_file_without_torch_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "in.pth").touch()
    monkeypatch.setitem(sys.modules, "torch", None)
    error = cli.error_of("convert", "from-torch", tmp_path / "in.pth", tmp_path / "model")
    assert "reading in.pth needs torch: pip install" in error


def test_an_existing_output_is_replaced_only_with_force(source, tmp_path):
    """A folder that is no checkpoint is never replaced."""
    model, folder = tmp_path / "model", tmp_path / "folder"
    convert("from-torch", source, model)
    error = cli.error_of("convert", "from-torch", source, model)
    assert "model exists: name another output, or replace it with --force" in error
    marker = model / "marker"
    marker.touch()
    convert("from-torch", source, model, "--force")
    assert not marker.exists()
    folder.mkdir()
    (folder / "precious").touch()
    error = cli.error_of("convert", "from-torch", source, folder, "--force")
    assert "folder exists and is no checkpoint" in error
    assert list(folder.iterdir()) == [folder / "precious"]
    assert "in.safetensors exists" in cli.error_of("convert", "to-torch", model, source)


def test_nothing_is_written_if_anything_is_wrong(reference, source, tmp_path):
    model = tmp_path / "model"
    del (broken := dict(reference))["PAM.gamma"]
    safetensors.numpy.save_file(broken, source)

    def error_of(*argv):
        result = cli.call("convert", "from-torch", *argv)
        assert result.returncode == 1 and result.stderr.startswith("error: ")
        return result.stderr

    assert "missing key PAM.gamma" in error_of(source, model)
    assert "--options must be" in error_of(source, model, "--options=[1]")
    assert "--options must be" in error_of(source, model, "--options={")
    assert "unknown model 'x'" in error_of(source, model, "--model=x")
    source.write_bytes(b"\xff" * 100)
    assert "is not a safetensors file" in error_of(source, model)
    assert "is not a file" in error_of(tmp_path / "none.pth", model)
    assert list(tmp_path.iterdir()) == [source]


def test_a_damaged_checkpoint_is_reported_in_one_line(source, tmp_path):
    """Arrays that are cut short, in a process to see what libraries print, and bad metadata."""
    model = tmp_path / "model"
    convert("from-torch", source, model)
    argv = ("convert", "to-torch", model, tmp_path / "out.safetensors")
    largest = max((model / "model").rglob("*"), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[: len(content) // 2])
    result = cli.run(*argv)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "model is damaged, use another" in line
    largest.write_bytes(content)
    (model / "metadata/metadata").write_text("{")
    assert "model is damaged, use another" in cli.error_of(*argv)
    assert not (tmp_path / "out.safetensors").exists()


def test_what_a_file_of_weights_cannot_hold_is_named(tmp_path):
    out = convert("to-torch", "sem", tmp_path / "sem.safetensors")
    assert (
        "do not hold how predict prepares images for it and the names of its outputs (metal, via): "
        "keep the checkpoint\n"
    ) in out
    assert out.endswith("eal_icnet with classes=2, in_channels=1\n")


def test_a_trained_checkpoint_converts_and_comes_back(workdir, tmp_path):
    convert("to-torch", workdir, tmp_path / "trained.safetensors")
    options = '{"block_1_dilations": [2], "block_2_dilations": [4]}'
    convert(
        "from-torch", tmp_path / "trained.safetensors", tmp_path / "model", "--options", options
    )
    first, second = (checkpoints.load_model(path) for path in (workdir, tmp_path / "model"))
    assert_equal(torch_weights.to_torch(second), torch_weights.to_torch(first))


def test_weights_for_other_images_are_adapted_on_request(reference, source, tmp_path):
    options = '{"in_channels": 3, "classes": 2}'
    argv = ("from-torch", source, tmp_path / "model", "--options", options)
    result = cli.call("convert", *argv)
    assert result.returncode == 1 and "wrong shape of" in result.stderr
    text = convert(*argv, "--encoder-weights")
    assert "is adapted from 1 channels to 3" in text
    assert "is initialised, because the weights have the shape" in text
    weights = torch_weights.to_torch(checkpoints.load_model(tmp_path / "model"))
    np.testing.assert_array_equal(weights["PAM.gamma"], reference["PAM.gamma"])


def test_upper_case_endings_are_the_same(reference, source, tmp_path, monkeypatch):
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "torch", None)
        upper = source.rename(tmp_path / "IN.SAFETENSORS")
        convert("from-torch", upper, tmp_path / "model")
        convert("to-torch", tmp_path / "model", tmp_path / "OUT.SAFETENSORS")
    assert_equal(safetensors.numpy.load_file(tmp_path / "OUT.SAFETENSORS"), reference)
    convert("to-torch", tmp_path / "model", tmp_path / "OUT.PTH")
    assert torch.load(tmp_path / "OUT.PTH", weights_only=True).keys() == reference.keys()


def test_what_was_taken_and_left_out_is_printed(reference, tmp_path):
    """Names from the file cannot steer the terminal."""
    weights = {
        f"model.{k}": torch.tensor(v) for k, v in wrappings.counted_by_thop(reference).items()
    }
    saved = {"model": weights, "ema": {k: v * 2 for k, v in weights.items()}, "\x1b[31m": 3}
    torch.save(saved, tmp_path / "in.pth")
    assert convert("from-torch", tmp_path / "in.pth", tmp_path / "model").splitlines() == [
        "the weights under 'model' are taken, not those under 'ema'",
        "beside the weights, these are left out: '\\x1b[31m'",
        "beside the weights, these are left out: total_ops, total_params",
        f"wrote {tmp_path / 'model'}: eal_icnet with classes=1, in_channels=1",
    ]
    converted = torch_weights.to_torch(checkpoints.load_model(tmp_path / "model"))
    assert_equal(converted, reference)
