"""Prepare, train, evaluate or verify what a config file describes.

    python -m eal_icnet_jax.main --config=configs/omv.py --workdir=DIR --config.x=y

`--mode` chooses what to do. `eal-icnet train`, `evaluate`, `prepare` and `verify` do the same.
"""

import argparse
import pathlib
from collections.abc import Sequence

from eal_icnet_jax.commands import evaluate, prepare, train, verify
from eal_icnet_jax.commands.config_arguments import add_config_arguments
from eal_icnet_jax.commands.parser import CommandParser, add_process_arguments
from eal_icnet_jax.system.errors import UserError

MODES = {"train": train, "evaluate": evaluate, "prepare": prepare, "verify": verify}

PROCESS_ARGUMENTS = ("coordinator", "processes", "process", "distributed")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m eal_icnet_jax.main`."""
    parser = CommandParser(prog="python -m eal_icnet_jax.main", description=__doc__)
    parser.add_argument("--mode", choices=MODES, default="train", help="what to do (train)")
    parser.add_argument(
        "--checkpoint", help="checkpoint to evaluate, by default the best of the workdir"
    )
    add_config_arguments(parser)
    add_process_arguments(parser)
    return parser


def check_flags(arguments: argparse.Namespace):
    """Raise a `UserError` if a flag is given that does nothing in this mode."""
    useless = [] if arguments.mode == "train" else list(PROCESS_ARGUMENTS)
    if arguments.mode in ("verify", "prepare"):
        useless.append("checkpoint")
    given = [f"--{name}" for name in useless if getattr(arguments, name) not in (None, False)]
    if given:
        raise UserError(f"{', '.join(given)} does nothing with --mode={arguments.mode}: remove it")
    if arguments.mode == "train" and arguments.checkpoint:
        raise UserError(
            "--checkpoint is for --mode=evaluate: to start from it, set config.model.checkpoint"
        )


def take_workdir(arguments: argparse.Namespace):
    """Take the work directory to verify from --workdir or from the one positional argument."""
    places = [word for word in arguments.config_overrides if not word.startswith("-")]
    named = [*places, *([arguments.workdir] if arguments.workdir else [])]
    if len(named) != 1:
        raise UserError(f"name one workdir to verify, not {len(named)}: --mode=verify WORKDIR")
    arguments.config_overrides = [w for w in arguments.config_overrides if w.startswith("-")]
    arguments.workdir = pathlib.Path(named[0])


def run(arguments: argparse.Namespace):
    """Run the command that the mode names."""
    check_flags(arguments)
    if arguments.mode == "evaluate":
        # The config has knobs for these.
        arguments.threshold = arguments.pictures = arguments.white = arguments.ignore = None
        arguments.force = False
        print(evaluate.evaluate_on_dataset(arguments))
        return
    if arguments.mode == "verify":
        take_workdir(arguments)
    MODES[arguments.mode].run(arguments)


def main(argv: Sequence[str] | None = None):
    """Run `python -m eal_icnet_jax.main` with the given arguments."""
    arguments, overrides = build_parser().parse_known_args(argv)
    arguments.config_overrides = overrides
    from eal_icnet_jax.system.command_process import exit_on_user_error

    with exit_on_user_error():
        run(arguments)


if __name__ == "__main__":
    main()
