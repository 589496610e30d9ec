"""Process-wide settings of a command, and its exit status. Libraries do not call this module."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from eal_icnet_jax.system.errors import Interrupted, UserError
from eal_icnet_jax.system.garbage_collection import collect_seldom
from eal_icnet_jax.system.signals import resend_lost_interrupts, sigterm_raises
from eal_icnet_jax.system.terminal import report_error

BACKGROUND_IO_ERRORS = "Event loop is closed", "while reading array index", "Error writing "
"""Texts of errors that TensorStore reports once more for each transfer that was under way."""

EXIT_CLOSED_OUTPUT = 141
"""Exit status when nobody reads the output any longer: that of SIGPIPE, 128 + 13."""


def _silence_repeated_io_errors():
    """Hide what Orbax, TensorStore and asyncio print after an error that a command reports."""
    from absl import logging as absl_logging

    earlier = sys.unraisablehook

    def hook(unraisable):
        if not any(text in str(unraisable.exc_value) for text in BACKGROUND_IO_ERRORS):
            earlier(unraisable)

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(
        lambda record: "exception was never retrieved" not in record.getMessage()
    )
    absl_logging.get_absl_logger().addFilter(
        lambda record: "SignalingThread" not in record.getMessage()
    )


def set_up_process():
    """Quieten the libraries, whose warnings name nothing that a user could change; start sooner."""
    collect_seldom()
    # Before OpenCV is imported, which reads it once.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # Grain's workers release the memory they share when they are stopped.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    from absl import logging as absl_logging

    if absl_logging.get_verbosity() < absl_logging.INFO:
        absl_logging.set_verbosity(absl_logging.ERROR)
    for name in ("tifffile", "zarr"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _silence_repeated_io_errors()
    resend_lost_interrupts()


def _gives_up_closed_output(probe: str = "") -> bool:
    """Return whether who read the standard output has closed it, as `head` does.

    What is printed after that goes nowhere: Python would complain when it ends.

    Args:
      probe: is written first, because Python forgets what it could not write.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.write(probe)
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Set the process up, then turn errors and signals into a sentence and an exit status."""
    set_up_process()
    try:
        with sigterm_raises():
            yield
    except BrokenPipeError:
        if not _gives_up_closed_output(probe="\n"):  # it was another pipe
            raise
        sys.exit(EXIT_CLOSED_OUTPUT)
    except (UserError, Interrupted, KeyboardInterrupt) as error:
        status = report_error(error)
        _gives_up_closed_output()
        sys.exit(status)
    if _gives_up_closed_output():
        sys.exit(EXIT_CLOSED_OUTPUT)
