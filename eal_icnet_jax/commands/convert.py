"""Convert PyTorch weights to a checkpoint directory, or back, bit for bit.

`.safetensors` files on either side need no torch.
"""

import argparse
import json
import pathlib

from eal_icnet_jax.models.registry import MODELS, ModelSpec, Preprocessing
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.terminal import announce


def add_arguments(parser: argparse.ArgumentParser):
    """Add the arguments of `eal-icnet convert`."""
    directions = parser.add_subparsers(dest="direction", required=True)
    source = directions.add_parser("from-torch", help="PyTorch weights to a checkpoint directory")
    source.add_argument("input", type=pathlib.Path, help=".pth or .safetensors file")
    source.add_argument("output", type=pathlib.Path, help="checkpoint directory to write")
    source.add_argument("--model", default="eal_icnet", help=", ".join(MODELS))
    source.add_argument(
        "--options", default="{}", help="options of the model as JSON, such as '{\"heads\": 4}'"
    )
    source.add_argument(
        "--encoder-weights",
        action="store_true",
        help="the weights are of the model's encoder, or for other channels or classes: adapt "
        "them and initialise the rest",
    )
    source.add_argument("--seed", type=int, default=0, help="seed of the initialisation (0)")
    target = directions.add_parser("to-torch", help="a checkpoint to PyTorch weights")
    target.add_argument("input", help="checkpoint or work directory")
    target.add_argument("output", type=pathlib.Path, help=".pth or .safetensors file to write")
    for subparser in (source, target):
        subparser.add_argument("--force", action="store_true", help="replace an existing output")


def _announce(notes: list[str]):
    for note in notes:
        announce(note)


def _announce_losses(spec: ModelSpec):
    """Say what a file of PyTorch weights does not hold."""
    lost = []
    if spec.preprocessing != Preprocessing():
        lost.append("how predict prepares images for it")
    if spec.outputs:
        lost.append(f"the names of its outputs ({', '.join(spec.outputs)})")
    if lost:
        announce(f"PyTorch weights do not hold {' and '.join(lost)}: keep the checkpoint")


def _model_from_torch(arguments: argparse.Namespace):
    from flax import nnx

    from eal_icnet_jax.models import torch_files, torch_weights

    try:
        options = json.loads(arguments.options)
        state_dict, notes = torch_files.read_with_notes(arguments.input)
        _announce(notes)
        if arguments.encoder_weights:
            model, notes = torch_weights.from_pretrained(
                state_dict, arguments.model, rngs=nnx.Rngs(arguments.seed), **options
            )
        else:
            model, notes = torch_weights.from_torch_with_notes(
                state_dict, arguments.model, **options
            )
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(
            f"--options must be a JSON object of the model's options: {error}"
        ) from error
    _announce(notes)
    return model


def run(arguments: argparse.Namespace):
    """Run `eal-icnet convert`."""
    from eal_icnet_jax.system.files import check_new

    check_new([arguments.output], arguments.force)
    from eal_icnet_jax.models import checkpoints, torch_files, torch_weights

    if arguments.direction == "from-torch":
        model = _model_from_torch(arguments)
        checkpoints.save_model(arguments.output, model)
        summary = f"{model.spec.name} with {model.spec.options_text()}"
    else:
        model = checkpoints.load_model(arguments.input)
        torch_files.write_state_dict(arguments.output, torch_weights.to_torch(model))
        summary = f"{model.spec.name} with {model.spec.options_text()}"
        _announce_losses(model.spec)
    print(f"wrote {arguments.output}: {summary}")
