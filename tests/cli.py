"""Run the project's commands, in a process of their own as a user does, or in this process."""

import contextlib
import importlib
import io
import os
import pathlib
import subprocess
import sys
from unittest import mock

from eal_icnet_jax import __main__
from eal_icnet_jax.system import command_process, jax_settings

WITHOUT = """
import importlib.machinery, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {absent}:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ModuleNotFoundError("no module " + spec.name, name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Absent())
"""
"""Code after which some modules cannot be imported."""

CODE = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
sys.argv = {argv}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""

ABSENT = pathlib.Path(__file__).parent / "absent"
"""Modules that stand for those which cannot be imported."""

MODULES = {"main": "eal_icnet_jax.main", "convert.py": "eal_icnet_jax.convert"}
"""Commands with a module of their own; all others are subcommands of `eal-icnet`."""


def arguments(command: str, *argv, without=()) -> list[str]:
    """Return the command line that runs `eal-icnet COMMAND ARGV`, or a module of `MODULES`.

    Args:
      command: a subcommand of `eal-icnet`, or a key of `MODULES`.
      *argv: arguments of the command.
      without: modules that cannot be imported, besides TensorFlow.
    """
    argv = [command, *map(str, argv)]
    module = MODULES.get(command, "eal_icnet_jax")
    if command not in MODULES:
        argv = ["eal-icnet", *argv]
    code = WITHOUT.format(absent=["tensorflow", *without]) + CODE.format(argv=argv, module=module)
    return [sys.executable, "-c", code]


def default_environment(changes: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of processes that have no PyTorch, as in the default install.

    tensorboardX imports it where it is, which takes a second and a half of each training's start.
    """
    paths = [str(ABSENT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **(changes or {})}


def run(
    command: str, *argv, without=(), environment=None, timeout=600
) -> subprocess.CompletedProcess:
    """Run a command in a process of its own. Its imports take some four seconds."""
    return subprocess.run(
        arguments(command, *argv, without=without),
        capture_output=True,
        text=True,
        timeout=timeout,
        env=default_environment(environment),
    )


def call(command: str, *argv) -> subprocess.CompletedProcess:
    """Run a command in this process, whose settings it leaves as they are.

    The process of tests that depend on signals, on several processes or on what libraries print
    must be one of its own: use `run` there.
    """
    argv = list(map(str, argv))
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(command_process, "set_up_process"),
        mock.patch.object(jax_settings, "configure"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            if command in MODULES:
                importlib.import_module(MODULES[command]).main(argv)
            else:
                __main__.main([command, *argv])
        except SystemExit as end:
            status = end.code or 0
    return subprocess.CompletedProcess([command, *argv], status, out.getvalue(), err.getvalue())


def error_of(command: str, *argv) -> str:
    """Return the one sentence with which a command fails. The command runs in this process."""
    result = call(command, *argv)
    assert result.returncode in (1, 2), result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line
