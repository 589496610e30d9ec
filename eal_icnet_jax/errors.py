"""What commands tell their users: errors that are theirs to mend, and warnings."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator

from absl import logging


class UserError(Exception):
    """Bad input, told in one sentence: what is wrong, where, and what to do.

    Commands print the sentence and exit with status 1.
    """


def warn(message: str):
    print(f"warning: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def told_to_user() -> Iterator[None]:
    """Turns a `UserError` into its sentence on the standard error and exit status 1.

    Libraries' own warnings, which say nothing that a user could act on, are kept quiet.
    """
    if logging.get_verbosity() < logging.INFO:
        logging.set_verbosity(logging.ERROR)
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


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
