"""Work on all cores: in threads for what releases Python's lock, in processes for what does not."""

import collections
import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import cv2

from eal_icnet_jax.errors import UserError, end_with_parent, without_interrupts

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` in threads, which stay only a few items ahead."""
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        pending: collections.deque = collections.deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > cores():
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def in_processes(function: Callable[[int], R], count: int) -> Iterator[R]:
    """`function(0)` to `function(count - 1)`, a process a core; `function` must be picklable.

    Raises:
      UserError: one of the processes was killed.
    """
    # `spawn`, because the threads of JAX and TensorFlow do not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers = min(cores(), count)
    with concurrent.futures.ProcessPoolExecutor(workers, context, _begin) as pool:
        with without_interrupts():
            results = pool.map(function, range(count), chunksize=4)
        try:
            yield from results
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                f"one of the {workers} processes of this command was killed, perhaps as memory ran "
                "out: run it again with more memory or on fewer cores"
            ) from error


def _begin():
    """The processes share the cores already, and OpenCV's threads would contend."""
    end_with_parent()
    cv2.setNumThreads(1)
