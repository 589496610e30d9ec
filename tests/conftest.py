"""Settings that every test shares."""

import os
import tempfile

# One compilation cache for the whole session and the processes that tests start: a program is
# compiled once.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"eal-icnet-jax-{os.getuid()}")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pathlib

import pytest

from tests import commands

SMALL_CONFIG = pathlib.Path(__file__).parent / "small_config.py"


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """The tiny dataset, prepared by the command."""
    path = tmp_path_factory.mktemp("data")
    result = commands.run(
        "main", f"--config={SMALL_CONFIG}", "--mode=prepare", f"--config.dataset.data_dir={path}"
    )
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture(scope="session")
def small_training(data_dir):
    """Arguments of `main` that train the small network, but for the workdir."""
    return [f"--config={SMALL_CONFIG}", f"--config.dataset.data_dir={data_dir}"]


@pytest.fixture(scope="session")
def workdir(small_training, tmp_path_factory):
    """A finished training, never disturbed."""
    path = tmp_path_factory.mktemp("run") / "workdir"
    result = commands.run("main", *small_training, f"--workdir={path}")
    assert result.returncode == 0, result.stderr
    (path / "stdout.txt").write_text(result.stdout)
    return path
