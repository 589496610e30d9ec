"""What works on Windows, where some packages and modules do not exist."""

import argparse
import sys

import numpy as np
import pytest

from eal_icnet_jax.commands import prepare, train, verify
from eal_icnet_jax.imaging import png
from eal_icnet_jax.system.errors import UserError
from tests import cli, small_model

MISSING = ("array_record", "fcntl", "grain", "grp", "pwd", "resource", "termios")
"""Modules without a release for Windows, and modules of Python that only POSIX systems have."""


def test_prediction_and_layout_need_no_module_that_windows_lacks(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    png.write(tmp_path / "photo.png", image)
    checkpoint = small_model.save(tmp_path / "model")
    options = f"--checkpoint={checkpoint}", f"--layout={tmp_path / 'photo.gds'}"
    result = cli.run(
        "predict", tmp_path / "photo.png", "-o", tmp_path / "masks", *options, without=MISSING
    )
    assert result.returncode == 0, result.stderr
    mask = tmp_path / "masks" / "photo.png"
    result = cli.run("layout", mask, "-o", tmp_path / "mask.oas", without=MISSING)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "photo.gds").exists() and (tmp_path / "mask.oas").exists()


@pytest.mark.parametrize("command", [train, prepare, verify], ids=lambda module: module.__name__)
def test_training_names_wsl2_on_windows(command, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match="use WSL2; `eal-icnet predict` and `eal-icnet layout`"):
        command.run(argparse.Namespace(workdir=None, config="configs/demo.py", config_overrides=[]))
