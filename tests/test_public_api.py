"""The package's public names, and what importing the package leaves as it is."""

import inspect
import json
import subprocess
import sys

import pytest

import eal_icnet_jax
from tests import cli


@pytest.mark.parametrize("name", eal_icnet_jax.__all__)
def test_every_public_name_exists_and_functions_and_classes_are_documented(name):
    value = getattr(eal_icnet_jax, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert (inspect.getdoc(value) or "").strip()
        assert value.__doc__, "the docstring is inherited"
    else:
        assert name == "MODELS"
    assert name in dir(eal_icnet_jax)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = eal_icnet_jax.train


def test_the_names_for_type_checkers_are_the_public_names():
    """`__all__`, the table of modules, and the imports that only type checkers see."""
    assert sorted(eal_icnet_jax._MODULE_OF) == sorted(eal_icnet_jax.__all__)
    source = inspect.getsource(eal_icnet_jax)
    seen = source.partition("if TYPE_CHECKING:")[2].partition("\n__version__")[0]
    for name, module in eal_icnet_jax._MODULE_OF.items():
        (line,) = [
            block
            for block in seen.split("from ")[1:]
            if block.startswith(f"eal_icnet_jax.{module} ")
        ]
        assert name in line.replace(",", " ").split(), name


def run(code: str, *argv: str) -> str:
    result = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_imports_nothing_heavy_and_no_second_copy_of_itself():
    code = """
import importlib, sys
before = set(sys.modules)
import eal_icnet_jax
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(loaded - sys.stdlib_module_names))
for name in ("eal_icnet_jax", "tests", "benchmarks"):
    try:
        importlib.import_module(f"eal_icnet_jax.{name}")
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"eal_icnet_jax.{name} can be imported")
"""
    assert run(code).strip() == "['eal_icnet_jax']"


IMPORT_EVERYTHING = '''
import ast, contextlib, importlib, json, logging, os, pathlib, pkgutil, signal, sys, threading
import warnings

import eal_icnet_jax

ROOT = pathlib.Path(eal_icnet_jax.__file__).parent


def our_modules():
    """Yield every module of the package, those of datasets/ and configs/ included."""
    pending = ["eal_icnet_jax", "eal_icnet_jax.datasets", "eal_icnet_jax.configs"]
    for package in pending:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            yield module.name


def foreign_modules():
    """Yield the modules of other packages that the package imports at module level."""
    for file in ROOT.rglob("*.py", recurse_symlinks=True) if sys.version_info >= (3, 13) else [
        pathlib.Path(folder) / name
        for folder, _, names in os.walk(ROOT, followlinks=True)
        for name in names
        if name.endswith(".py")
    ]:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


for name in sorted({name for name in foreign_modules() if not name.startswith("eal_icnet_jax")}):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

import cv2, jax, matplotlib
from absl import logging as absl_logging

LOGGERS = ("", "absl", "asyncio", "jax", "matplotlib", "orbax", "tifffile", "zarr")


def hook(*_):
    pass


# What a caller may have set.
matplotlib.use("svg")
matplotlib.rcParams["axes.grid"] = True
for number, name in enumerate(LOGGERS):
    logging.getLogger(name).setLevel(11 + number)
absl_logging.set_verbosity(absl_logging.INFO)
sys.excepthook = sys.unraisablehook = threading.excepthook = hook
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, hook)
os.environ |= {"PYTHONWARNINGS": "error", "OPENCV_LOG_LEVEL": "DEBUG", "MALLOC_ARENA_MAX": "7"}
cv2.setNumThreads(3)
warnings.simplefilter("once", ResourceWarning)
jax.config.update("jax_compilation_cache_dir", "/cache")


def state():
    import gc, locale, multiprocessing, numpy

    loggers = {name: logging.getLogger(name) for name in LOGGERS}
    return {
        "matplotlib": (matplotlib.get_backend(), dict(matplotlib.rcParams)),
        "levels": {name: logger.level for name, logger in loggers.items()},
        "filters": {name: list(logger.filters) for name, logger in loggers.items()},
        "handlers": {name: list(logger.handlers) for name, logger in loggers.items()},
        "verbosity": absl_logging.get_verbosity(),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "signals": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "environment": dict(os.environ),
        "opencv": cv2.getNumThreads(),
        "warnings": list(warnings.filters),
        "jax": dict(jax.config.values),
        "numpy": numpy.geterr(),
        "path": (list(sys.path), list(sys.meta_path), os.getcwd()),
        "threads": threading.active_count(),
        "callbacks": list(gc.callbacks),
        "processes": multiprocessing.get_start_method(allow_none=True),
        "locale": locale.setlocale(locale.LC_ALL),
    }


before = state()


def changed():
    after = state()
    return [part for part in before if before[part] != after[part]]


names = sorted(set(our_modules()))
changed_by_imports = {}
for name in names:
    importlib.import_module(name)
    if changed():
        changed_by_imports[name] = changed()
        before = state()

jax.config.update("jax_compilation_cache_dir", None)
before = state()
model = eal_icnet_jax.create_model(
    "eal_icnet", rngs=__import__("flax").nnx.Rngs(0), block_1_dilations=(), block_2_dilations=()
)
eal_icnet_jax.save_model(sys.argv[1], model)
eal_icnet_jax.load_model(sys.argv[1])
print(json.dumps([names, changed_by_imports, changed()]))
'''


@pytest.fixture(scope="module")
def library_process(tmp_path_factory):
    """What a process does that imports everything, then saves and loads a model.

    Returns the names of all modules, what importing each has changed, and what the rest has.
    """
    code = cli.WITHOUT.format(absent=["tensorflow"]) + IMPORT_EVERYTHING
    return json.loads(run(code, str(tmp_path_factory.mktemp("library") / "model")))


def test_importing_any_module_changes_nothing_in_the_callers_process(library_process):
    names, changed_by_imports, _ = library_process
    assert changed_by_imports == {}
    assert len(names) > 80
    for name in (
        "__main__",
        "configs.default",
        "datasets.hy5syn.hy5syn_dataset_builder",
        "training.trainer",
        "system.command_process",
    ):
        assert f"eal_icnet_jax.{name}" in names


def test_saving_and_loading_a_model_changes_nothing_in_the_callers_process(library_process):
    """But for the threads of JAX and Orbax."""
    _, _, changed = library_process
    assert set(changed) <= {"threads"}
