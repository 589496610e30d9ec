"""Work on all cores: threads for code that releases the GIL, processes for the rest."""

import collections
import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.signals import sigint_ignored, sigterm_deferred

T = TypeVar("T")
R = TypeVar("R")


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def exit_with_parent():
    """Exit this child process as soon as its parent has ended, even if the parent was killed."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start_worker():
    import cv2

    exit_with_parent()
    cv2.setNumThreads(1)  # the workers already share the cores


def map_in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `function(item)` in order, computed in threads that stay only a few items ahead."""
    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        pending: collections.deque = collections.deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > available_cores():
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def map_in_processes(function: Callable[[int], R], indices: Sequence[int]) -> Iterator[R]:
    """Yield the function of each index in turn, computed in one process per core.

    Args:
      function: must be picklable.
      indices: its arguments.

    Raises:
      UserError: one of the processes was killed.
    """
    # `spawn`, because the threads of JAX and TensorFlow do not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers = min(available_cores(), len(indices))
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker)
    try:
        # A process that dies while it starts others leaves them with a traceback.
        with sigint_ignored(), sigterm_deferred():
            results = pool.map(function, indices, chunksize=4)
        yield from results
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            f"one of the {workers} processes of this command was killed, perhaps because "
            "memory ran out: run it again with more memory or on fewer cores"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)  # otherwise it would wait for all calls
