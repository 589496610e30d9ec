"""Settings and fixtures that every test shares."""

import datetime
import json
import os
import pathlib
import shutil
import signal

# One compilation cache for all tests and the processes that they start: a program is compiled once.
CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compile in a third less time, without LLVM's optimiser. tests/models compiles as users do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import filelock  # noqa: E402
import pytest  # noqa: E402

from eal_icnet_jax.system.files import write_atomically  # noqa: E402
from eal_icnet_jax.system.garbage_collection import collect_seldom  # noqa: E402
from eal_icnet_jax.training import provenance  # noqa: E402
from tests import cli  # noqa: E402

collect_seldom()

TREE_CONFIG = pathlib.Path(__file__).parent / "tree_config.py"
DATASETS = ("omc", "omv", "miic", "hy5syn")
FIGURES = pathlib.Path(__file__).parent / "reliability" / "soak.json"
SMALL_CONFIG = pathlib.Path(__file__).parent / "small_config.py"


def call(command, *argv):
    """Run a command in this process, which must succeed."""
    result = cli.call(command, *argv)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A function `(name, fill)` that returns a folder, which `fill` has filled once.

    The processes of pytest-xdist share the folder: the first one fills it, the others wait.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def folder(name, fill):
        path, filled = root / f"shared_{name}", root / f"shared_{name}.filled"
        with filelock.FileLock(root / f"shared_{name}.lock"):
            if not filled.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                fill(path)
                filled.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def data_dir(shared_folder):
    """The tiny dataset, prepared."""

    def fill(path):
        data = f"--config.dataset.data_dir={path}"
        call("main", f"--config={SMALL_CONFIG}", "--mode=prepare", data)

    return shared_folder("data", fill)


@pytest.fixture(scope="session")
def sample_trees(shared_folder):
    """A folder of twelve small pairs in the on-disk form of each of the four datasets."""

    def fill(path):
        for name in DATASETS:
            call("draw", "dataset", name, path / name, "--images=12", "--size=64")

    return shared_folder("trees", fill)


@pytest.fixture(scope="session")
def prepared_trees(sample_trees, shared_folder):
    """The four datasets, prepared from those folders."""

    def fill(path):
        for name in DATASETS:
            call(
                "main",
                f"--config={TREE_CONFIG}:{name}",
                "--mode=prepare",
                f"--config.dataset.data_dir={path}",
                f"--config.dataset.manual_dir={sample_trees / name}",
            )

    return shared_folder("prepared", fill)


@pytest.fixture(scope="session")
def small_training(data_dir):
    """The arguments of `main` that train the small network, without the workdir."""
    return [f"--config={SMALL_CONFIG}", f"--config.dataset.data_dir={data_dir}"]


@pytest.fixture(scope="session")
def workdir(small_training, shared_folder):
    """A finished training. Tests read it, and copy it to change or to lock it."""

    def fill(path):
        result = cli.run("main", *small_training, f"--workdir={path / 'workdir'}")
        assert result.returncode == 0, result.stderr
        (path / "workdir" / "stdout.txt").write_text(result.stdout)

    return shared_folder("run", fill) / "workdir"


@pytest.fixture
def workdir_copy(workdir, tmp_path):
    """A copy of the finished training, for the test to change."""
    return shutil.copytree(workdir, tmp_path / "copy")


@pytest.fixture
def heeded_ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also in a shell's background job, which ignores it."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.fixture
def figures(request):
    """A dict for a long test to fill. If the test passes, it is stored in soak.json."""
    found: dict = {}
    yield found
    all_figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    all_figures[request.node.name] = {
        "date": datetime.date.today().isoformat(),
        "commit": provenance.commit(),
        "versions": {name: provenance.versions()[name] for name in ("python", "jax", "flax")},
        **found,
    }
    if found:
        write_atomically(FIGURES, json.dumps(all_figures, indent=1, sort_keys=True) + "\n")
