"""The packaged weights: whole, as they were trained, and found by name."""

import json
import pathlib

import numpy as np
import pytest

from eal_icnet_jax.models import checkpoints, creation, pretrained
from eal_icnet_jax.models.creation import with_first_outputs
from eal_icnet_jax.models.registry import Preprocessing
from eal_icnet_jax.system.errors import UserError
from tests import cli

LOGITS = pathlib.Path(__file__).parents[1] / "golden" / "pretrained.npz"
"""Logits of `picture` by the name of the weights; `python -m tests.models.test_pretrained` writes
them when weights change."""


def picture(channels: int) -> np.ndarray:
    """Bright wires with noise, `[1, 64, 64, channels]`."""
    rows = (np.arange(64) // 12 % 2).astype(np.float32)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 0.05, (64, 64, channels))
    return np.clip(0.2 + 0.6 * rows + noise, 0, 1).astype(np.float32)[None]


def logits_of(name: str) -> np.ndarray:
    model = pretrained.load_pretrained(name)
    return np.asarray(model(picture(dict(model.spec.options)["in_channels"])))


@pytest.mark.parametrize("name", pretrained.PRETRAINED)
def test_packaged_weights_give_the_logits_they_gave_when_they_were_packaged(name):
    stored = np.load(LOGITS)[name]
    np.testing.assert_allclose(logits_of(name), stored, atol=1e-4 * np.ptp(stored))


@pytest.mark.parametrize("name", pretrained.PRETRAINED)
def test_packaged_weights_are_small_and_found_by_name(name):
    assert pretrained.weights_file(name).stat().st_size <= 4 * 2**20
    model = checkpoints.load_model(name)
    assert dict(model.spec.options)["classes"] == len(pretrained.KINDS)
    assert model.spec.preprocessing == pretrained.PRETRAINED[name].preprocessing


def test_a_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    data = bytearray(pretrained.weights_file("sem").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "sem.safetensors").write_bytes(data)
    monkeypatch.setattr(pretrained, "weights_file", lambda name: tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="is not the file that was packaged: install the package"):
        pretrained.load_pretrained("sem")
    (tmp_path / "sem.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be read: install the package again"):
        pretrained.load_pretrained("sem")


def test_the_first_output_alone_gives_the_same_logits():
    full = pretrained.load_pretrained("sem")
    metal = with_first_outputs(full, 1)
    assert metal.spec.outputs == ("metal",) and dict(metal.spec.options)["classes"] == 1
    assert metal.spec.preprocessing == full.spec.preprocessing
    image = picture(1)
    metal.eval()
    np.testing.assert_allclose(metal(image)[..., 0], full(image)[..., 0], atol=1e-4)


@pytest.mark.parametrize("name", ["irdpnet", "fcn", "unet"])
def test_other_networks_can_lose_an_output(name):
    full = creation.blank_model(name, classes=3)
    assert dict(with_first_outputs(full, 2).spec.options)["classes"] == 2


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="unknown weights 'xray': choose one of optical, sem"):
        pretrained.load_pretrained("xray")


@pytest.mark.parametrize("name", pretrained.PRETRAINED)
def test_packaged_weights_are_written_for_pytorch(name, tmp_path):
    out = tmp_path / "x.safetensors"
    assert cli.call("convert", "to-torch", name, out).returncode == 0
    assert out.stat().st_size > 2**20


@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing(), Preprocessing((0.5, 99.5), 20.0, 256), Preprocessing(None, 8.0)],
)
def test_preprocessing_survives_json(preprocessing):
    values = json.loads(json.dumps(preprocessing.to_json()))
    assert Preprocessing.from_json(values) == preprocessing


@pytest.mark.parametrize(
    "values",
    [
        {"stretch": [5, 5]}, {"stretch": [0, 101]}, {"stretch": "ab"}, {"stretch": [1, 2, 3]},
        {"wire_width": -1}, {"wire_width": 1e9}, {"wire_width": "wide"}, {"wire_width": None},
        {"crop_size": -1}, {"crop_size": 1e9}, {"crop_size": "large"}, {"crop_size": None},
        {"crop_size": 31}, {"crop_size": 256.5}, {"wire_width": 0},
    ],
    ids=str,
)  # fmt: skip
def test_preprocessing_of_strangers_is_checked(values):
    with pytest.raises(UserError, match="is no preprocessing of images"):
        Preprocessing.from_json({**Preprocessing(None, 20.0, 256).to_json(), **values})


@pytest.mark.parametrize("values", [{}, [], None, {"stretch": None, "wire_width": 0}], ids=str)
def test_preprocessing_without_its_facts_is_refused(values):
    with pytest.raises(UserError, match="is no preprocessing of images"):
        Preprocessing.from_json(values)


if __name__ == "__main__":
    np.savez_compressed(LOGITS, **{name: logits_of(name) for name in pretrained.PRETRAINED})
