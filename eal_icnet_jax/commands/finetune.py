"""Train a network further on what you corrected.

    eal-icnet finetune --project=DIR

DIR/train holds corrected squares of photographs: image/ and label/, and if there are any via_label/
and ignore/, by equal names. Each round trains for a few minutes from the packaged weights, or from
--checkpoint, with drawn images mixed in. Its model is then the one in use, and the models before it
are kept. The same command goes on with a round that was stopped.
"""

import argparse
import pathlib

from eal_icnet_jax.commands.train import check_platform


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet finetune`."""
    add = parser.add_argument
    add("--project", type=pathlib.Path, required=True, metavar="DIR", help="folder of the project")
    add("--checkpoint", metavar="DIR",
        help="checkpoint or work directory to start from, or optical or sem (by default the one of "
        "these that suits the squares)")  # fmt: skip
    add("--undo", action="store_true", help="use the model before the one in use, and do not train")
    parser.set_defaults(config_overrides=[])
    parser.epilog = (
        "any knob of configs/finetune.py can be set: --config.epochs=8; configs/default.py lists "
        "them"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet finetune`."""
    check_platform()
    from eal_icnet_jax.commands.config_arguments import load_config
    from eal_icnet_jax.review.project import Project
    from eal_icnet_jax.system import jax_settings

    project = Project(arguments.project)
    if arguments.undo:
        model = project.go_back()
        print(f"in use: {model or 'the model before any round'}")
        return
    load_config("configs/finetune.py:optical", arguments.config_overrides)  # wrong ones end it here
    jax_settings.configure(training=True)
    checkpoint = arguments.checkpoint or project.suitable_weights()
    workdir, goes_on = project.next_round([checkpoint, *arguments.config_overrides])
    recipe = project.recipe(workdir, checkpoint)
    print(
        f"{'going on with ' if goes_on else ''}round {int(workdir.name)}: {len(project.pairs)} "
        f"squares, from {checkpoint}, which is wrong at {recipe.error:.0%} of their masks",
        flush=True,
    )
    from eal_icnet_jax.training import runs

    flags = [*recipe.flags, *arguments.config_overrides]
    print(runs.train(load_config(recipe.config, flags), workdir))
    project.use(workdir)
    print(f"in use: {workdir}; predict with --checkpoint={workdir}, go back with --undo")
