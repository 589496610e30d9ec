"""Settings that every test shares."""

import datetime
import json
import os
import pathlib

# One compilation cache for all tests and the processes that they start: a program is compiled once.
CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest  # noqa: E402

from eal_icnet_jax import provenance  # noqa: E402
from eal_icnet_jax.files import write_whole  # noqa: E402
from tests import commands  # noqa: E402

TREE_CONFIG = pathlib.Path(__file__).parent / "tree_config.py"
DATASETS = ("omc", "omv", "miic", "hy5syn")
FIGURES = pathlib.Path(__file__).parent / "reliability" / "soak.json"
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
def sample_trees(tmp_path_factory):
    """A folder of twelve small pairs in the on-disk form of each of the four datasets."""
    path = tmp_path_factory.mktemp("trees")
    for name in DATASETS:
        result = commands.run("sample_tree", name, path / name, "--images=12", "--size=64")
        assert result.returncode == 0, result.stderr
    return path


@pytest.fixture(scope="session")
def prepared_trees(sample_trees, tmp_path_factory):
    """The four datasets, prepared from those folders by the command."""
    path = tmp_path_factory.mktemp("prepared")
    for name in DATASETS:
        result = commands.run(
            "main",
            f"--config={TREE_CONFIG}:{name}",
            "--mode=prepare",
            f"--config.dataset.data_dir={path}",
            f"--config.dataset.manual_dir={sample_trees / name}",
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


@pytest.fixture
def figures(request):
    """A dict for a long test to fill; if it passes, it is left in soak.json under its name."""
    found: dict = {}
    yield found
    all_of_them = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    all_of_them[request.node.name] = {
        "date": datetime.date.today().isoformat(),
        "commit": provenance.commit(),
        "versions": {name: provenance.versions()[name] for name in ("python", "jax", "flax")},
        **found,
    }
    if found:
        write_whole(FIGURES, json.dumps(all_of_them, indent=1, sort_keys=True) + "\n")
