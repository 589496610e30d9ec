"""SIGINT and SIGTERM: noted for later, raised as exceptions, ignored, or sent again."""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator

from eal_icnet_jax.system.errors import Terminated


def _in_main_thread() -> bool:
    """Only the main thread may set signal handlers."""
    return threading.current_thread() is threading.main_thread()


def _restore(number: int, handler):
    # The handler is None if it was not set from Python, such as JAX's for several hosts.
    signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _raise_terminated(number: int, _):
    signal.signal(number, signal.SIG_IGN)  # no second SIGTERM during the clean-up
    raise Terminated


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`. Does nothing outside the main thread."""
    if not _in_main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        _restore(signal.SIGTERM, earlier)


@functools.cache
def resend_lost_interrupts():
    """Send a signal again if its exception was lost, for the whole process.

    An exception raised during garbage collection is swallowed, because JAX registers a gc callback.
    That happens to a tenth of the signals in the first seconds of a command.
    """
    earlier = sys.unraisablehook

    def hook(unraisable):
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            earlier(unraisable)
            return
        number = signal.SIGINT
        if isinstance(unraisable.exc_value, Terminated):
            number = signal.SIGTERM
            signal.signal(number, _raise_terminated)
        # Sent from another thread: an exception raised here would be swallowed again.
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = hook


class Interruption:
    """A context in which SIGTERM and SIGINT are noted, so that work can be saved first.

    A second SIGINT raises `KeyboardInterrupt` at once. Outside the main thread nothing is noted.

    Args:
      announcement: printed when the first signal arrives.

    Attributes:
      requested: whether a signal has arrived.
    """

    def __init__(self, announcement: str):
        self._announcement = announcement
        self.requested = False
        self._earlier = {}

    def __enter__(self) -> "Interruption":
        if _in_main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._earlier.items():
            _restore(number, handler)

    def _note(self, number: int, _):
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            message = f"\n{signal.Signals(number).name}: {self._announcement}\n"
            os.write(2, message.encode())  # print is not safe in a signal handler
        self.requested = True


@contextlib.contextmanager
def sigterm_deferred() -> Iterator[None]:
    """Inside, SIGTERM waits for the end of the block, which must be short."""
    if not _in_main_thread():
        yield
        return
    arrived = []
    earlier = signal.signal(signal.SIGTERM, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        _restore(signal.SIGTERM, earlier)
        if arrived:
            signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def sigint_ignored() -> Iterator[None]:
    """Inside, SIGINT is ignored. Processes started inside ignore it for their whole life.

    A terminal sends Ctrl-C to every process of a command, but only the first one handles it.
    """
    if not _in_main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
