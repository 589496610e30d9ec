"""Evaluate a finished run again and check that its recorded figures hold."""

import argparse
import pathlib

from eal_icnet_jax.commands.config_arguments import config_from
from eal_icnet_jax.commands.train import check_platform


def add_arguments(parser: argparse.ArgumentParser):
    """Add the arguments of `eal-icnet verify`."""
    parser.add_argument("workdir", type=pathlib.Path, help="folder of a finished run")
    parser.add_argument(
        "--config", metavar="FILE", help="config that says where the dataset is now"
    )
    parser.set_defaults(config_overrides=[])
    parser.epilog = "where the dataset is now can be set: --config.dataset.data_dir=DIR"


def run(arguments: argparse.Namespace):
    """Run `eal-icnet verify`."""
    check_platform()
    if arguments.config_overrides and not arguments.config:
        arguments.config = "configs/default.py"
    data = config_from(arguments) if arguments.config else None
    from eal_icnet_jax.system import jax_settings
    from eal_icnet_jax.training.verification import verify

    jax_settings.configure()
    verify(arguments.workdir.expanduser(), data, report=lambda line: print(line, flush=True))
