"""Prepare the dataset of a config file, if it is not prepared yet."""

import argparse

from eal_icnet_jax.commands.config_arguments import add_config_arguments, config_from
from eal_icnet_jax.commands.train import check_platform
from eal_icnet_jax.system.errors import UserError


def add_arguments(parser: argparse.ArgumentParser):
    """Add the arguments of `eal-icnet prepare`."""
    add_config_arguments(parser)


def run(arguments: argparse.Namespace):
    """Run `eal-icnet prepare`."""
    check_platform()
    if arguments.workdir:
        raise UserError("preparing a dataset writes no workdir: remove --workdir")
    config = config_from(arguments)
    from eal_icnet_jax.data import prepared_datasets
    from eal_icnet_jax.training.config_check import check_config

    check_config(config)
    prepared_datasets.prepare(config.dataset)
