"""Timing in alternating child processes, so that all of them meet the machine in the same state."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

from eal_icnet_jax.comparison.memory import process_peak_bytes
from eal_icnet_jax.system.child_process import ChildDied, ChildProcess

REST = 0.05
"""Seconds between two runs, in which the threads of the last one stop spinning."""

ERROR_LENGTH = 200
"""Characters of an error message that are kept."""


class WorkerError(RuntimeError):
    """A worker failed, in one line."""


class _Task:
    """The function that a worker's process runs. It stays in that process."""

    run: Callable[[], dict | None]


def _prepare(prepare: Callable[..., Callable], arguments: tuple):
    _Task.run = staticmethod(prepare(*arguments))


def _run(start_time: float) -> dict:
    start = time.perf_counter()
    extra = _Task.run()
    seconds = time.perf_counter() - start
    answer = {
        "seconds": seconds,
        "peak": process_peak_bytes(),
        "age": time.time() - start_time,
    }
    return answer | (extra or {})


def _guarded(function: Callable, *arguments):
    """Call a function in the worker's process; not every exception of a library can be pickled."""
    try:
        return function(*arguments)
    except Exception as error:
        text = " ".join(str(error).split())[:ERROR_LENGTH]
        raise WorkerError(f"{type(error).__name__}: {text}") from None


class Worker:
    """A process that runs a prepared function again and again. The first run comes at once.

    Args:
      prepare: returns the function to run, which may return a dict that is added to the answers.
        `prepare` and its arguments are pickled.
      environment: variables to set in the process.

    Attributes:
      first: answer of the first run: `seconds`; `peak`, the largest memory of the process in bytes;
        `age`, seconds since the process was started.
      last: the latest answer.
      seconds: of each later run.

    Raises:
      WorkerError: preparing or the first run failed.
    """

    def __init__(self, prepare: Callable, *arguments, environment: Mapping[str, str] | None = None):
        self._start_time = time.time()
        self._child = ChildProcess(environment, silent=True)
        try:
            self._call(_prepare, prepare, arguments)
            self.first: dict = self._call(_run, self._start_time)
        except BaseException:
            self.close()
            raise
        self.last = self.first
        self.seconds: list[float] = []

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_):
        self.close()

    def _call(self, function: Callable, *arguments):
        try:
            return self._child.call(_guarded, function, *arguments)
        except ChildDied as error:
            raise WorkerError(str(error)) from error

    def run(self):
        """Run the function once, then rest.

        Raises:
          WorkerError: it failed.
        """
        self.last = self._call(_run, self._start_time)
        self.seconds.append(self.last["seconds"])
        time.sleep(REST)

    def close(self):
        """End the process."""
        self._child.close()


def interleave(workers: Iterable[Worker], rounds: int):
    """Run the workers alternately, after one run each that settles caches and is not kept.

    Raises:
      WorkerError: a run failed.
    """
    workers = list(workers)
    for worker in workers:
        worker.run()
        worker.seconds.clear()
    for _ in range(rounds):
        for worker in workers:
            worker.run()


def ratio(worker: Worker, other: Worker) -> list[float]:
    """Return the quartiles of the other's time over the worker's, round by round."""
    ratios = [b / a for a, b in zip(worker.seconds, other.seconds, strict=True)]
    return statistics.quantiles(ratios, n=4, method="inclusive")
