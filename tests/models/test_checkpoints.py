"""Checkpoint directories: complete or not there, checked when they are read."""

import errno
import os
import pathlib

import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.models import checkpoints, named_arrays
from eal_icnet_jax.system.errors import UserError
from tests import trainings

OPTIONS = {"block_1_dilations": (2,), "block_2_dilations": (4,)}


def small_model(seed: int) -> nnx.Module:
    return models.create_model("eal_icnet", rngs=nnx.Rngs(seed), **OPTIONS)


@pytest.fixture(scope="module")
def first():
    return small_model(0)


@pytest.fixture(scope="module")
def second():
    return small_model(1)


def assert_holds(path, model):
    loaded = checkpoints.load_model(path)
    arrays = [
        {k: np.asarray(v) for k, v in named_arrays.weight_arrays(nnx.state(each)).items()}
        for each in (loaded, model)
    ]
    trainings.assert_equal(*arrays)
    assert loaded.spec == model.spec


def test_a_saved_model_is_loaded_in_evaluation_mode_and_replaces_an_earlier_one(
    first, second, tmp_path
):
    path = tmp_path / "new" / "model"
    checkpoints.save_model(path, first)
    assert_holds(path, first)
    assert checkpoints.load_model(path).tssa.dropout.deterministic
    checkpoints.save_model(path, second)
    assert_holds(path, second)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failing", [".model.partial", "model"])
def test_if_a_rename_fails_the_earlier_checkpoint_stays(
    first, second, tmp_path, monkeypatch, failing
):
    """The rename of the new directory to its name, or that of the earlier one out of its way."""
    path = tmp_path / "model"
    checkpoints.save_model(path, first)
    rename, refused = pathlib.Path.rename, []

    def refusing(self, target):
        if self.name == failing and not refused:
            refused.append(target)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", refusing)
    with pytest.raises(UserError, match="model cannot be written: No space left on device"):
        checkpoints.save_model(path, second)
    assert refused
    assert_holds(path, first)
    assert list(tmp_path.iterdir()) == [path]


def test_something_that_is_no_checkpoint_is_not_replaced(first, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").touch()
    with pytest.raises(UserError, match="folder exists and is no checkpoint: name another output"):
        checkpoints.save_model(tmp_path / "folder", first)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["precious"]


def test_a_checkpoint_of_another_model_is_reported(first, tmp_path):
    checkpoints.save_model(tmp_path / "model", first)
    with pytest.raises(UserError, match="is of another model than eal_icnet"):
        checkpoints.load_model(tmp_path / "model", block_1_dilations=(2, 2))
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoints.load_model(tmp_path)


def test_a_work_directory_gives_its_best_checkpoint(workdir):
    epochs = {record["step"]: record["validation_loss"] for record in trainings.epochs(workdir)}
    best = workdir / "checkpoints" / str(min(epochs, key=epochs.get))
    assert checkpoints.resolve(workdir) == best
    assert checkpoints.resolve(workdir / "checkpoints") == best
    assert checkpoints.resolve(best) == best
