"""A command that is killed while it works, and run again."""

import pathlib
import subprocess
import time

from tests import cli


def assert_the_next_run_ends_alike(arguments: tuple, out: pathlib.Path):
    """Kill a command that writes an OME-TIFF while it works, and compare two runs after that.

    Args:
      arguments: of the command; it writes to the path that follows them.
      out: path of the result.
    """
    work = out.with_name(f".{out.name}.pyramid")
    process = subprocess.Popen(cli.arguments(*arguments, out), env=cli.default_environment())
    while process.poll() is None and not work.exists():
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert work.exists() and not out.exists()
    assert cli.call(*arguments, out).returncode == 0
    assert not work.exists()
    other = out.parent / "other" / out.name
    other.parent.mkdir()
    assert cli.call(*arguments, other).returncode == 0
    assert out.read_bytes() == other.read_bytes()
