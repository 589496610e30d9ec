"""Processes that take turns, so that what is timed meets the machine in the same state."""

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable

from eal_icnet_jax.errors import end_with_parent

REST = 0.05
"""Seconds between two runs, in which the threads of the last one stop spinning."""


def peak_bytes() -> int:
    """The most memory that this process has held."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def _serve(connection, began: float, prepare: Callable, arguments: tuple):
    """A worker's process: prepares, runs once, and then once for every message."""
    end_with_parent()
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what libraries print is no answer
        os.dup2(quiet, stream)
    try:
        run = prepare(*arguments)
        while True:
            start = time.perf_counter()
            told = run()
            seconds = time.perf_counter() - start
            told = told if isinstance(told, dict) else {}
            connection.send(
                {"seconds": seconds, "peak": peak_bytes(), "age": time.time() - began, **told}
            )
            connection.recv()
    except EOFError:
        return
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        connection.send({"error": f"{type(error).__name__}: {told}"})


class Worker:
    """A process that runs something whenever it is told to.

    Args:
      prepare: returns what to run, which may return a dict that goes into the answers; it and its
        arguments are pickled.
      environment: variables that the process is started with.

    Attributes:
      first: the answer of the first run, which begins by itself: `seconds`; `peak`, the bytes that
        the process has held at most; `age`, seconds since the process was started. In place of them
        `error`, a line, where something went wrong.
      seconds: of each later run.
      last: the latest answer.
    """

    def __init__(self, prepare: Callable, *arguments, environment: dict[str, str] | None = None):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process_arguments = (theirs, time.time(), prepare, arguments)
        self._process = context.Process(target=_serve, args=process_arguments, daemon=True)
        kept = dict(os.environ)
        os.environ.update(environment or {})
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(kept)
        theirs.close()
        self.seconds: list[float] = []
        self.first = self.last = self._answer()

    def _answer(self) -> dict:
        try:
            return self._connection.recv()
        except EOFError:
            return {"error": "the process died"}

    def run(self):
        """One run.

        Raises:
          RuntimeError: it failed.
        """
        self._connection.send("run")
        self.last = self._answer()
        if "error" in self.last:
            raise RuntimeError(self.last["error"])
        self.seconds.append(self.last["seconds"])
        time.sleep(REST)

    def end(self):
        self._connection.close()
        self._process.join(60)


def take_turns(workers: Iterable[Worker], rounds: int):
    """Each worker once, which settles caches and allocators and is not kept, and then in rounds."""
    for worker in workers:
        worker.run()
        worker.seconds.clear()
    for _ in range(rounds):
        for worker in workers:
            worker.run()


def ratio(worker: Worker, other: Worker) -> list[float]:
    """The other's time by the worker's, round by round: quartiles, the median in the middle."""
    ratios = [b / a for a, b in zip(worker.seconds, other.seconds, strict=True)]
    return statistics.quantiles(ratios, n=4, method="inclusive")
