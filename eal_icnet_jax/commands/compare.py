"""Train and evaluate several networks, each several times, and compare what they reach and cost.

    eal-icnet compare --config=configs/synthetic.py --models=all --trials=3 --workdir=W

Each trial is a training in W/MODEL/trial_K, with the config's seed and those after it. The same
command again goes on where it was stopped. In the end it measures speed and memory, each network
alternately with the first one, and writes comparison.md, .csv, .tex, .png and .html into W, beside
plan.txt, the work that there was to do at the beginning.
"""

import argparse
import functools

from eal_icnet_jax.commands.config_arguments import add_config_arguments, config_from
from eal_icnet_jax.commands.train import check_platform


def add_arguments(parser: argparse.ArgumentParser):
    """Add the arguments of `eal-icnet compare`."""
    add_config_arguments(parser)
    parser.add_argument(
        "--models",
        metavar="NAMES",
        default="all",
        help="names of networks, separated by commas; `all` (default); or `ablations`: eal_icnet "
        "and the variants of configs/ablation.py. The others are compared with the first one",
    )
    parser.add_argument(
        "--trials", type=int, default=3, help="trainings of each, with different seeds (default 3)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace files that another program wrote"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only show the missing trials and their cost"
    )


def run(arguments: argparse.Namespace):
    """Run `eal-icnet compare`."""
    check_platform()
    config = config_from(arguments)
    import jax

    # This process needs no device: its children compute.
    jax.config.update("jax_platforms", "cpu")
    from eal_icnet_jax.comparison.compare import compare

    compare(
        config,
        [name for name in arguments.models.split(",") if name],
        arguments.trials,
        arguments.workdir,
        report=functools.partial(print, flush=True),
        dry_run=arguments.dry_run,
        force=arguments.force,
    )
