"""Argument parsers that all commands share. Imports nothing heavy: `--help` answers at once."""

import argparse
import sys
from typing import NoReturn

WHITE_HELP = (
    "level of white in the images, such as 4095 for 12 bits in 16 (default: as the file states, or "
    "as its levels show)"
)
"""Help of --white."""


def scale_factor(text: str) -> float | str:
    """Return the value of --scale: a factor, or "auto"."""
    return text if text == "auto" else float(text)


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the network of a prediction, and its threshold."""
    add = parser.add_argument
    add("--checkpoint", metavar="DIR",
        help="checkpoint or work directory, or the packaged weights optical or sem (by default the "
        "one that suits each image)")  # fmt: skip
    add("--threshold", type=float, default=0.5, metavar="P",
        help="smallest probability of foreground (%(default)s)")  # fmt: skip


class CommandParser(argparse.ArgumentParser):
    """A parser that reports a wrong argument in one sentence and exits with status 2."""

    def __init__(self, **options):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def add_process_arguments(parser: argparse.ArgumentParser):
    """Add the options of a command that several processes or hosts run together."""
    group = parser.add_argument_group("several processes or hosts, one command each")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="find the other processes through the cluster's environment",
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="address at which the first process is reached"
    )
    group.add_argument("--processes", type=int, help="number of processes")
    group.add_argument("--process", type=int, help="index of this process, from 0")
