"""A child process that calls functions for its parent, one at a time."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from eal_icnet_jax.system.errors import Interrupted
from eal_icnet_jax.system.garbage_collection import collect_seldom
from eal_icnet_jax.system.workers import exit_with_parent

R = TypeVar("R")


class ChildDied(RuntimeError):
    """The child process ended before its function returned."""


def _initialize(environment: dict[str, str], silent: bool):
    exit_with_parent()
    collect_seldom()
    os.environ.update(environment)
    if silent:
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(null, stream)


class ChildProcess:
    """A process of its own, which keeps its state between calls and ends with its parent.

    Functions, arguments and results are pickled. The process is spawned, because the threads of JAX
    do not survive a fork.

    Args:
      environment: variables to set in the child, before any function is called.
      silent: whether to discard what the child prints.

    Raises:
      ChildDied: it could not be started.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, silent: bool = False):
        context = multiprocessing.get_context("spawn")
        arguments = dict(environment or {}), silent
        self._executor = ProcessPoolExecutor(1, context, _initialize, arguments)
        self._pid: int | None = None
        self._pid = self.call(os.getpid)

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, function: Callable[..., R], *arguments) -> R:
        """Return `function(*arguments)`, computed in the child.

        If an exception such as Ctrl-C ends the wait, the child is terminated.

        Raises:
          ChildDied: the child ended before the function returned.
          Exception: whatever the function raises.
        """
        future: Future | None = None
        try:
            future = self._executor.submit(function, *arguments)
            return future.result()
        except BrokenProcessPool as error:
            raise ChildDied("its process was killed, perhaps because memory ran out") from error
        except BaseException:
            if future is not None and not future.done():
                self._terminate()
            raise

    def call_interruptibly(self, function: Callable[..., R], *arguments) -> R:
        """Call a function that saves its work at SIGTERM. Only the main thread may do so.

        SIGTERM and SIGINT of this process are passed on to the child as SIGTERM, and the function's
        reaction is waited for.

        Raises:
          Interrupted: a signal arrived, or the function raised `Interrupted`.
          ChildDied: as in `call`.
          Exception: whatever the function raises.
        """
        received: list[int] = []

        def pass_on(number: int, _):
            received.append(number)
            self._terminate()

        numbers = signal.SIGTERM, signal.SIGINT
        earlier = {number: signal.signal(number, pass_on) for number in numbers}
        try:
            result = self.call(function, *arguments)
        except (ChildDied, KeyboardInterrupt) as error:
            if received:
                raise Interrupted(f"{function.__name__} was stopped") from error
            raise
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler or signal.SIG_DFL)
        if received:
            raise Interrupted(f"a signal arrived while {function.__name__} returned")
        return result

    def _terminate(self):
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def close(self):
        """End the child and wait for its end."""
        self._executor.shutdown(cancel_futures=True)
