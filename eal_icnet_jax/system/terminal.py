"""Text for the terminal: announcements, warnings, error reports and progress bars."""

import contextlib
import signal
import sys
import traceback

from tqdm import tqdm

from eal_icnet_jax.system.errors import EXIT_INTERRUPTED, Interrupted, Terminated, UserError


def printable(text: str) -> str:
    """Escape characters that would steer a terminal. File names and file contents may hold them."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def warn(message: str):
    """Print a warning on standard error."""
    print(printable(f"warning: {message}"), file=sys.stderr, flush=True)


def announce(message: str):
    """Print a line about the progress of a long command on standard output."""
    print(printable(message), flush=True)


def report_error(error: BaseException) -> int:
    """Print the error that ended a command, and return the command's exit status."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    if isinstance(error, UserError):
        message, status = f"error: {error}", 1
    elif isinstance(error, Interrupted):
        message, status = f"interrupted: {error}", EXIT_INTERRUPTED
    elif isinstance(error, Terminated):
        message, status = "terminated", 128 + signal.SIGTERM
    elif isinstance(error, KeyboardInterrupt):
        message, status = "interrupted", 128 + signal.SIGINT
    else:
        message, status = "".join(traceback.format_exception(error)).rstrip(), 1
    print(printable(message), file=sys.stderr, flush=True)
    return status


def progress_bar(title: str, total: int, unit: str, **options) -> tqdm:
    """Return a tqdm bar on standard error, which adds a line every 10 s if that is no terminal."""
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(desc=title, total=total, unit=unit, mininterval=interval, **options)
