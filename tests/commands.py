"""Runs the project's commands as a user does, in a process of their own that has no TensorFlow."""

import os
import subprocess
import sys

CODE = """
import importlib.machinery, runpy, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where a shell's job began this

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {absent}:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ModuleNotFoundError("no module " + spec.name, name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Absent())
sys.argv = {argv}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def arguments(module: str, *argv, without=()) -> list[str]:
    argv = [module, *map(str, argv)]
    code = CODE.format(argv=argv, module=f"eal_icnet_jax.{module}", absent=["tensorflow", *without])
    return [sys.executable, "-c", code]


def run(module: str, *argv, without=(), environment=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments(module, *argv, without=without),
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, **(environment or {})},
    )


def told(module: str, *argv) -> str:
    """The one sentence with which a command fails."""
    result = run(module, *argv)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line
