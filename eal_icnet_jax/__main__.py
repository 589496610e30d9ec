"""The command `eal-icnet`: a table of subcommands, each imported when it is called."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import eal_icnet_jax
from eal_icnet_jax.commands.parser import CommandParser

COMMANDS = {
    "train": "train a network as a config file describes",
    "evaluate": "compare predictions with labels: metrics, tables and pictures",
    "predict": "write the masks of photographs and mosaics",
    "diff": "compare a layout or mask with a golden one",
    "align": "move the image of a layer over that of another one",
    "stitch": "join overlapping tiles to one image",
    "compare": "train several networks and compare what they reach and cost",
    "convert": "convert PyTorch weights to a checkpoint, or back",
    "export": "write a network for ONNX Runtime, OpenVINO and others",
    "layout": "write masks as GDSII, OASIS or SVG",
    "nets": "extract the nets of a stack of layers",
    "labels": "turn an edited layout or a painted image into labels",
    "finetune": "train a network further on what you corrected",
    "review": "correct a prediction in your browser, and let the network learn from it",
    "review-list": "list the places of a prediction that a person should look at first",
    "inspect": "look a dataset over before training on it",
    "draw": "draw a sample dataset or a whole die",
    "prepare": "prepare the dataset of a config file",
    "verify": "evaluate a finished run again and check its recorded figures",
}
"""Each command and its line in `eal-icnet --help`."""


def command_module(name: str):
    """Import the module of a command."""
    return importlib.import_module(f"eal_icnet_jax.commands.{name.replace('-', '_')}")


def build_parser(chosen: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of `eal-icnet`, with the arguments of the chosen commands only."""
    parser = CommandParser(
        prog="eal-icnet", description="Segmentation of integrated-circuit micrographs."
    )
    version = f"eal-icnet {eal_icnet_jax.__version__}"
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument(
        "--print-completion",
        metavar="SHELL",
        help="print the completion script of bash, zsh or tcsh (needs the package shtab)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = commands.add_parser(name, help=summary)
        if name in chosen:
            module = command_module(name)
            subparser.description = module.__doc__
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run, subparser=subparser)
    return parser


def print_completion(shell: str):
    """Print a shell's completion script, which knows every command and option."""
    parser = build_parser(tuple(COMMANDS))
    try:
        import shtab
    except ImportError:
        parser.error("--print-completion needs shtab: pip install 'eal-icnet-jax[completion]'")
    if shell not in shtab.SUPPORTED_SHELLS:
        parser.error(f"--print-completion is {shell}: name one of {shtab.SUPPORTED_SHELLS}")
    print(shtab.complete(parser, shell))


def main(argv: Sequence[str] | None = None):
    """Run `eal-icnet` with the given arguments, by default those of the process."""
    argv = sys.argv[1:] if argv is None else list(argv)
    chosen = [argument for argument in argv if argument in COMMANDS][:1]
    parser = build_parser(chosen)
    arguments, rest = parser.parse_known_args(argv)
    if arguments.print_completion:
        print_completion(arguments.print_completion)
        return
    if arguments.command is None:
        parser.error("name a command")
    if hasattr(arguments, "config_overrides"):
        arguments.config_overrides = rest
    elif rest:
        arguments.subparser.error(f"unknown argument {rest[0]}")
    from eal_icnet_jax.system.command_process import exit_on_user_error

    with exit_on_user_error():
        arguments.run(arguments)


if __name__ == "__main__":
    main()
