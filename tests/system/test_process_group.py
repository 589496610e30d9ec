"""Several real processes join, agree and end together."""

import subprocess
import sys

import pytest

from eal_icnet_jax.system import process_group
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, joined
from tests.trainings import free_port

COUNT = 3

MEMBER = """
import os, signal, socket, sys, time
from eal_icnet_jax.system import command_process, lifeline, process_group

address, count, index, task = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
lifeline.CONNECT_SECONDS = 2
if task == "unreachable" and index == 2:
    def refuse(*arguments, **options):
        raise ConnectionRefusedError("no route to host")
    socket.create_connection = refuse

with command_process.exit_on_user_error():
    with process_group.joined(address, count, index, False) as group:
        values = group.gathered(index * [group.index])
        print("gathered", values, flush=True)
        if task == "lost" and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "lost":
            group.gathered("never")
"""


def run_group(task: str) -> list[tuple[int, str]]:
    """Return the exit status and the output of each process of a group."""
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, address, str(COUNT), str(index), task],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(COUNT)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    statuses = [process.returncode for process in processes]
    return list(zip(statuses, outputs, strict=True))


def test_processes_go_on_together_if_one_cannot_reach_the_second_port():
    results = run_group("unreachable")
    for status, output in results:
        assert status == 0, output
        assert "gathered [[], [1], [2, 2]]" in output
    warnings = ["cannot reach each other on a second port" in output for _, output in results]
    assert warnings == [True, False, False]


@pytest.mark.parametrize("error", [ValueError("UNKNOWN: Gloo AllGather failed"), RuntimeError("x")])
def test_a_failed_collective_is_recognised_whatever_its_type(error):
    assert process_group._is_failed_collective(error) == ("Gloo" in str(error))


def test_a_killed_process_ends_the_others_with_a_sentence():
    (first, lost, third) = run_group("lost")
    assert lost[0] == -9
    for status, output in (first, third):
        assert status == 1, output
        assert "error: process 1 of 3 failed or was lost: start all of them again" in output
        assert "Traceback" not in output


def test_without_arguments_there_is_one_process():
    with joined(None, None, None, False) as group:
        assert group is SINGLE_PROCESS
        assert group.gathered({"a": 1}) == [{"a": 1}]
        assert group.is_first


@pytest.mark.parametrize("given", [("a:1", None, None), ("a:1", 2, None), (None, None, 0)])
def test_half_of_the_arguments_are_refused(given):
    message = "--coordinator, --processes and --process go together: name all three"
    with pytest.raises(UserError, match=message), joined(*given, False):
        pass
