"""Trainings in processes of their own, and the files that they leave."""

import json
import os
import pathlib
import queue
import re
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import psutil
from flax import nnx

from eal_icnet_jax.models import checkpoints, named_arrays
from tests import cli


class Process:
    """A command in a process of its own, whose output can be waited for.

    Args:
      command: as for `cli.arguments`.
      *arguments: of the command.
      environment: variables to set.
      within: the beginning of a command line that runs the command, such as `ip netns exec NAME`.

    Attributes:
      text: what the command has printed so far.
    """

    def __init__(self, command: str, *arguments, environment=None, within=()):
        self._lines: queue.Queue = queue.Queue()
        self.text = ""
        self._popen = subprocess.Popen(
            [*within, *cli.arguments(command, *arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=cli.default_environment(environment),
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._popen.stdout:
            self.text += line
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str, seconds: float = 300) -> bool:
        """Return whether a line matches the pattern before the output ends."""
        until = time.monotonic() + seconds
        while (line := self._lines.get(timeout=until - time.monotonic())) is not None:
            if re.search(pattern, line):
                return True
        return False

    def wait_for_children(self, count: int, seconds: float = 60):
        """Wait until the command has started so many processes."""
        until = time.monotonic() + seconds
        while len(psutil.Process(self._popen.pid).children(recursive=True)) < count:
            assert time.monotonic() < until, f"fewer than {count} processes: {self.text}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals, whole_session: bool = False):
        """Send a signal to the command, or also to its processes as a terminal or cluster does."""
        if whole_session:
            os.killpg(self._popen.pid, number)
        else:
            self._popen.send_signal(number)

    def end(self, seconds: float = 300) -> int:
        """Wait for the end of the command, and return its exit status."""
        try:
            status = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            raise
        self.wait_for("$^", 10)
        return status

    def assert_nothing_left(self):
        """Assert that all processes of the command's session end within seconds."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                os.killpg(self._popen.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
        raise AssertionError("the command has left processes")


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_group(count: int, *arguments) -> list[Process]:
    """Start the processes of one training on this machine, which find each other by an address."""
    port = free_port()
    return [
        Process(
            "main",
            *arguments,
            f"--coordinator=127.0.0.1:{port}",
            f"--processes={count}",
            f"--process={index}",
        )
        for index in range(count)
    ]


def start_slurm_group(count: int, *arguments) -> list[Process]:
    """Start the processes of one training, which find each other by Slurm's variables."""
    job = free_port()  # JAX derives the port from the job's number
    return [
        Process(
            "main",
            *arguments,
            "--distributed",
            environment={
                "SLURM_JOB_ID": str(job),
                "SLURM_STEP_NODELIST": "localhost",
                "SLURM_STEP_NUM_NODES": "1",
                "SLURM_NTASKS": str(count),
                "SLURM_PROCID": str(index),
                "SLURM_LOCALID": str(index),
            },
        )
        for index in range(count)
    ]


def weights(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Return the weights of a checkpoint by name."""
    model = checkpoints.load_model(workdir / "checkpoints" / str(step))
    return {k: np.asarray(v) for k, v in named_arrays.weight_arrays(nnx.state(model)).items()}


def assert_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]):
    """Assert that named arrays are equal to the bit."""
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def assert_same_end(workdir: pathlib.Path, undisturbed: pathlib.Path, step: int = 24):
    """Assert that two runs have equal weights at their last step, and equal epoch records."""
    assert_equal(weights(workdir, step), weights(undisturbed, step))
    assert epochs(workdir) == epochs(undisturbed)


def records(workdir: pathlib.Path) -> list[dict]:
    """Return all records of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def epochs(workdir: pathlib.Path) -> list[dict]:
    """Return the records of validated epochs."""
    return [record for record in records(workdir) if "validation_loss" in record]


def steps(workdir: pathlib.Path) -> list[int]:
    """Return the steps of the complete checkpoints in order."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
