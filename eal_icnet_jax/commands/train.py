"""Train a network as a config file describes, then evaluate it on the test split.

The same command again goes on where it was stopped. SIGTERM and Ctrl-C write a checkpoint and exit
with status 75.
"""

import argparse
import sys

from eal_icnet_jax.commands.config_arguments import add_config_arguments, config_from
from eal_icnet_jax.commands.parser import add_process_arguments
from eal_icnet_jax.system.errors import UserError


def add_arguments(parser: argparse.ArgumentParser):
    """Add the arguments of `eal-icnet train`."""
    add_config_arguments(parser)
    add_process_arguments(parser)


def check_platform():
    """Raise a `UserError` on Windows, where a requirement of training has no release."""
    if sys.platform == "win32":
        raise UserError(
            "datasets and training need Linux or macOS, because array-record has no release for "
            "Windows: use WSL2; `eal-icnet predict` and `eal-icnet layout` work here"
        )


def run(arguments: argparse.Namespace):
    """Run `eal-icnet train`."""
    check_platform()
    config = config_from(arguments)
    from eal_icnet_jax.system import jax_settings, process_group

    with process_group.joined(
        arguments.coordinator, arguments.processes, arguments.process, arguments.distributed
    ) as processes:
        jax_settings.configure(training=True)
        from eal_icnet_jax.training import runs

        if text := runs.train(config, arguments.workdir, processes):
            print(text, flush=True)
