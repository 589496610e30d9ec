"""How a command ends."""

import signal
import subprocess
import sys

PRINTS = """
from eal_icnet_jax.system.command_process import exit_on_user_error
with exit_on_user_error():
    while True:
        print("line")
"""


def test_a_command_whose_output_is_closed_ends_without_a_word():
    """As in `eal-icnet predict photos -o masks | head -1`."""
    command = [sys.executable, "-c", PRINTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
