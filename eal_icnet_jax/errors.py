"""What commands tell their users: errors that are theirs to mend, warnings, and interruptions."""

import argparse
import contextlib
import functools
import logging as python_logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

from absl import logging

INTERRUPTED = 75
"""Exit status of a command that a signal stopped and that goes on when it is run again, as
`EX_TEMPFAIL` of sysexits.h."""


class UserError(Exception):
    """Bad input, told in one sentence: what is wrong, where, and what to do.

    Commands print the sentence and exit with status 1.
    """


class Interrupted(Exception):
    """A signal stopped the command, and what it had done is kept: says how to go on.

    Commands print the sentence and exit with status 75, `INTERRUPTED`.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM, which like Ctrl-C leaves nothing half written: commands exit with status 143."""


def _terminate(number: int, _):
    signal.signal(number, signal.SIG_IGN)  # while what is half done is put away
    raise Terminated


@functools.cache
def _insist():
    """Sends a signal again whose exception went nowhere.

    Those that come while Python collects garbage do, of which JAX is told by a callback: a tenth of
    those in the first seconds of a command.
    """
    earlier = sys.unraisablehook

    def hook(unraisable):
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            earlier(unraisable)
            return
        number = signal.SIGINT
        if isinstance(unraisable.exc_value, Terminated):
            number = signal.SIGTERM
            signal.signal(number, _terminate)
        # Not here, from where it would go nowhere again.
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = hook


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`, in the main thread, which alone may handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        _restore(signal.SIGTERM, earlier)


def _restore(number: int, handler):
    # None is a handler that Python does not know, such as JAX's for several hosts.
    signal.signal(number, signal.SIG_DFL if handler is None else handler)


def printable(text: str) -> str:
    """Text of whatever a file says, without what would steer a terminal."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def warn(message: str):
    print(printable(f"warning: {message}"), file=sys.stderr, flush=True)


def tell(error: BaseException) -> int:
    """Prints what stopped a command, and returns the exit status for it."""
    sys.stdout.flush()
    if isinstance(error, UserError):
        told, status = f"error: {error}", 1
    elif isinstance(error, Interrupted):
        told, status = f"interrupted: {error}", INTERRUPTED
    elif isinstance(error, Terminated):
        told, status = "terminated", 128 + signal.SIGTERM
    elif isinstance(error, KeyboardInterrupt):
        told, status = "interrupted", 128 + signal.SIGINT
    else:
        told, status = "".join(traceback.format_exception(error)).rstrip(), 1
    print(printable(told), file=sys.stderr, flush=True)
    return status


@contextlib.contextmanager
def told_to_user() -> Iterator[None]:
    """Turns a `UserError` into its sentence on the standard error and exit status 1.

    So it does with interruptions, of which SIGTERM becomes one. Libraries' own warnings, which say
    nothing that a user could act on, are kept quiet.
    """
    if logging.get_verbosity() < logging.INFO:
        logging.set_verbosity(logging.ERROR)
    for name in ("tifffile", "zarr"):
        python_logging.getLogger(name).setLevel(python_logging.CRITICAL)
    _insist()
    try:
        with ended_by_sigterm():
            yield
    except (UserError, Interrupted, KeyboardInterrupt) as error:
        sys.exit(tell(error))


class Interruption:
    """While it is entered, SIGTERM and SIGINT are noted, so that work can be put away.

    A second SIGINT ends the command at once. Outside the main thread, which alone may handle
    signals, nothing is noted.

    Attributes:
      requested: whether either came.
    """

    def __init__(self, what: str):
        self._what = what
        self.requested = False
        self._earlier = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
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
            told = f"\n{signal.Signals(number).name}: {self._what}\n"
            os.write(2, told.encode())  # print is not safe here
        self.requested = True


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Ignores SIGINT, and so do processes that are begun meanwhile, for as long as they live.

    A terminal's Ctrl-C goes to all processes of a command, of which one knows what to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


def end_with_parent():
    """Ends this process as soon as the one that began it is gone, however that ended."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def command_parser(module: str, text: str) -> argparse.ArgumentParser:
    """A parser for `python -m eal_icnet_jax.MODULE`, whose help begins with a text as it stands."""
    return argparse.ArgumentParser(
        prog=f"python -m eal_icnet_jax.{module}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run_command(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], None],
    argv: list[str] | None,
):
    """Runs a command on its arguments, with errors told to the user."""
    arguments = parser.parse_args(argv)
    with told_to_user():
        run(arguments)
