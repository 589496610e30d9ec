"""How a command ends."""

import os
import subprocess
import sys

import pytest

START = """
import sys
from eal_icnet_jax.system.command_process import exit_on_user_error
from eal_icnet_jax.system.errors import UserError
with exit_on_user_error():
    print("line", flush=True)
    sys.stdin.read()
"""

ENDS = {
    "prints on": ("    while True: print('line')", b"", 141),
    "prints a last line": ("    print('line')", b"", 141),
    "fails": ("    print('line')\n    raise UserError('it is not there')",
              b"error: it is not there\n", 1),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_a_command_whose_output_is_closed_ends_without_a_complaint(end):
    """As in `eal-icnet predict photos -o masks | head -1`."""
    code, error, status = ENDS[end]
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONUNBUFFERED"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", START + code]
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == error
    assert process.returncode == status


def test_another_broken_pipe_is_an_error():
    code = START.replace("sys.stdin.read()", "raise BrokenPipeError('of a worker')")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1 and "of a worker" in result.stderr
