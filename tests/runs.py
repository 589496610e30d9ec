"""Trainings in processes of their own, and what they leave."""

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
from flax import nnx

from eal_icnet_jax import checkpoints
from tests import commands


class Process:
    """A command whose lines can be waited for.

    Args:
      within: a command that runs it.
    """

    def __init__(self, module: str, *arguments, environment=None, within=()):
        self._lines: queue.Queue = queue.Queue()
        self.text = ""
        self._popen = subprocess.Popen(
            [*within, *commands.arguments(module, *arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._popen.stdout:
            self.text += line
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str, seconds: float = 300) -> bool:
        """Whether a line of this pattern comes before the end."""
        until = time.monotonic() + seconds
        while (line := self._lines.get(timeout=until - time.monotonic())) is not None:
            if re.search(pattern, line):
                return True
        return False

    def signal(self, number: signal.Signals, all_of_it: bool = False):
        """To the command, or to its processes too, as a terminal or a cluster does."""
        if all_of_it:
            os.killpg(self._popen.pid, number)
        else:
            self._popen.send_signal(number)

    def is_gone(self) -> bool:
        """Whether it and all processes that it began have ended."""
        try:
            os.killpg(self._popen.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def end(self, seconds: float = 300) -> int:
        """Waits, and returns the exit status."""
        try:
            status = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            raise
        self.wait_for("$^", 10)
        return status


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def several(count: int, *arguments) -> list[Process]:
    """Processes of one training, on this machine."""
    port = _free_port()
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


def of_cluster(count: int, *arguments) -> list[Process]:
    """The same, which find each other by what Slurm sets."""
    number = _free_port()  # of the job, of which JAX makes a port
    return [
        Process(
            "main",
            *arguments,
            "--distributed",
            environment={
                "SLURM_JOB_ID": str(number),
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
    model = checkpoints.load_model(workdir / "checkpoints" / str(step))
    return {k: np.asarray(v) for k, v in checkpoints.weight_arrays(nnx.state(model)).items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]):
    """Bit for bit."""
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def records(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def epochs(workdir: pathlib.Path) -> list[dict]:
    """The records of whole epochs."""
    return [record for record in records(workdir) if "validation_loss" in record]


def steps(workdir: pathlib.Path) -> list[int]:
    """Of the checkpoints that are whole, in order."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
