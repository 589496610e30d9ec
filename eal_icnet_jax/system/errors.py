"""Exceptions that commands turn into one sentence and an exit status."""

EXIT_INTERRUPTED = 75
"""Exit status of an interrupted command that goes on when it is run again (`EX_TEMPFAIL`)."""


class UserError(Exception):
    """An error that the user can fix, in one sentence: what is wrong, where, and what to do.

    Commands print the sentence and exit with status 1.
    """


class Interrupted(Exception):
    """A signal stopped the command and its progress is saved. The text says how to go on.

    Commands print the sentence and exit with status 75, `EXIT_INTERRUPTED`.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM as an exception. Like Ctrl-C, it leaves no half-written file.

    Commands exit with status 143.
    """


def os_error_cause(error: OSError) -> str:
    """Return the cause of an OSError without its number and path, such as "Permission denied"."""
    return error.strerror or str(error)


def first_line(error: BaseException, length: int = 200) -> str:
    """Return the first line of an error's text, or the name of its type if there is no text."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:length]
