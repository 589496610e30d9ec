"""The scripts of benchmarks/, which are no package, as modules."""

import importlib.util
import pathlib
import types

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> types.ModuleType:
    """Import benchmarks/NAME.py, which imports no other file of that folder."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
