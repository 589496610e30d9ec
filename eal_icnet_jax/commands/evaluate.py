"""Compare predictions with labels: tables of metrics, and pictures of the worst and best images.

    eal-icnet evaluate --images=DIR --labels=DIR --checkpoint=DIR -o DIR
    eal-icnet evaluate --predictions=DIR --labels=DIR -o DIR
    eal-icnet evaluate --config=FILE --workdir=DIR [--checkpoint=DIR]

The first form predicts the images of a folder. The second compares masks from any source. The
third evaluates on the test split of a config's dataset, into the folder test/ of the work
directory, whose best checkpoint is used unless another is named.
"""

import argparse
import pathlib
from typing import TYPE_CHECKING

from eal_icnet_jax.commands.config_arguments import add_config_arguments, config_from
from eal_icnet_jax.commands.parser import WHITE_HELP
from eal_icnet_jax.system.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eal_icnet_jax.evaluation.evaluation import Evaluation
    from eal_icnet_jax.models.network import Network

FORMS = (
    "name --images, --labels, --checkpoint and --output, or --predictions, --labels and --output, "
    "or --config and --workdir"
)
"""The options of each form."""

THRESHOLD, PICTURES = 0.5, 4
"""Defaults of --threshold and --pictures."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet evaluate`."""
    add = parser.add_argument
    add("--labels", type=pathlib.Path, metavar="DIR", help="folder of label masks")
    add("--images", type=pathlib.Path, metavar="DIR", help="folder of images to predict")
    add("--predictions", type=pathlib.Path, metavar="DIR", help="folder of masks to compare")
    add("--checkpoint", metavar="DIR", help="checkpoint or work directory")
    add("-o", "--output", type=pathlib.Path, metavar="DIR", help="for tables and pictures")
    add("--ignore", type=pathlib.Path, metavar="DIR",
        help="folder of masks of pixels that do not count, with the images' names")  # fmt: skip
    add("--threshold", type=float, metavar="P",
        help=f"with --images, smallest probability of foreground ({THRESHOLD})")  # fmt: skip
    add("--white", type=int, metavar="LEVEL", help=WHITE_HELP)
    add("--force", action="store_true", help="replace files that another program wrote")
    add("--pictures", type=int, metavar="N",
        help=f"number of the worst and of the best images to draw ({PICTURES})")  # fmt: skip
    add_config_arguments(parser)


def _given(arguments: argparse.Namespace) -> set[str]:
    """Return the names of the options that select a form."""
    names = ("images", "predictions", "labels", "checkpoint", "output", "config", "workdir")
    return {name for name in names if getattr(arguments, name) is not None}


def _check_folder_options(unknown: list[str], threshold: float, pictures: int, white: int | None):
    from eal_icnet_jax.imaging.levels import check_white
    from eal_icnet_jax.inference.prediction_options import check_threshold

    if unknown:
        raise UserError(f"unknown argument {unknown[0]}; see eal-icnet evaluate --help")
    check_threshold(threshold)
    check_white(white, "--white")
    if pictures < 0:
        raise UserError(f"--pictures is {pictures}: name 0 or more")


def _find_pairs(images: pathlib.Path, labels: pathlib.Path, kind: str) -> list:
    """Return the pairs of two folders, and report the labels that are left over."""
    from eal_icnet_jax.imaging import image_folders
    from eal_icnet_jax.system.terminal import warn

    pairs, unused = image_folders.find_pairs(images, labels)
    if unused:
        warn(
            f"{len(unused)} of {len(unused) + len(pairs)} labels in {labels} have no {kind} in "
            f"{images}, and are left out: {image_folders.joined_names(unused)}"
        )
    return pairs


def _ignored(folder: pathlib.Path | None, pairs: list) -> dict[str, pathlib.Path]:
    """Return the masks of ignored pixels by the name of their label."""
    from eal_icnet_jax.imaging import image_folders

    if folder is None:
        return {}
    found = {image_folders.stem_of(path): path for path in image_folders.find_images(folder)}
    names = {image_folders.stem_of(label) for _, label in pairs}
    if superfluous := [path for name, path in found.items() if name not in names]:
        raise UserError(
            f"{folder} holds masks without a label ({image_folders.joined_names(superfluous)}): "
            "give them the names of the labels, or remove them"
        )
    return found


def _evaluate_images(
    arguments: argparse.Namespace, threshold: float, pictures: int
) -> "Evaluation":
    """Predict the images of a folder and compare with the labels."""
    from eal_icnet_jax.data import decoded_examples
    from eal_icnet_jax.evaluation.evaluation import Evaluation, evaluate_examples
    from eal_icnet_jax.inference.predictor import Predictor
    from eal_icnet_jax.models import checkpoints
    from eal_icnet_jax.system import jax_settings

    jax_settings.configure()
    model = checkpoints.load_model(arguments.checkpoint)
    options = dict(model.spec.options)
    if options["classes"] != 1 and not model.spec.outputs:
        raise UserError(
            f"{arguments.checkpoint} predicts {options['classes']} masks, and a folder has one "
            "label per image: evaluate it on its dataset with --config and --workdir"
        )
    pairs = _find_pairs(arguments.images, arguments.labels, "image")
    examples = decoded_examples.folder_examples(
        pairs,
        options["in_channels"],
        model.smallest,
        arguments.white,
        model.spec.preprocessing.stretch,
        _ignored(arguments.ignore, pairs),
    )
    if options["classes"] != 1 or model.spec.preprocessing.wire_width:
        return _evaluate_as_predicted(arguments, model, pairs, examples, threshold, pictures)
    evaluation = Evaluation(("label",), threshold, pictures)
    evaluate_examples(Predictor(model), examples, evaluation, batch_size=1)
    return evaluation


def _evaluate_as_predicted(
    arguments: argparse.Namespace,
    model: "Network",
    pairs: list,
    examples: "Iterator[dict]",
    threshold: float,
    pictures: int,
) -> "Evaluation":
    """Compare the masks that `predict` writes with the labels.

    The network magnifies each image to the width of wires that it knows. Of several outputs, the
    first one is compared.
    """
    from eal_icnet_jax.evaluation.evaluation import Evaluation
    from eal_icnet_jax.inference.image_prediction import ImagePredictor
    from eal_icnet_jax.system.terminal import announce

    if model.spec.outputs:
        announce(f"the labels are compared with the network's output {model.spec.outputs[0]}")
    evaluation = Evaluation(("label",), threshold, pictures)
    predict = ImagePredictor(model, threshold=threshold, white=arguments.white)
    for (path, _), example in zip(pairs, examples, strict=True):
        predicted = predict(path)
        for note in predicted.notes:
            announce(f"{path.name}: {note}")
        (probabilities, *_), (mask, *_) = predicted.probabilities.values(), predicted.masks.values()
        evaluation.add(example, probabilities[..., None], None, mask[..., None])
    return evaluation


def evaluate_on_dataset(arguments: argparse.Namespace) -> str:
    """Evaluate on a prepared dataset, and return the report."""
    options = {
        "--threshold": arguments.threshold is not None,
        "--pictures": arguments.pictures is not None,
        "--white": arguments.white is not None,
        "--ignore": arguments.ignore is not None,
        "--force": arguments.force,
    }
    if given := [name for name, is_given in options.items() if is_given]:
        raise UserError(
            f"{' and '.join(given)} are for folders: with --config, set "
            "config.evaluation.threshold, config.evaluation.pictures and config.dataset.white "
            "instead, and put a folder ignore/ beside the labels"
        )
    config = config_from(arguments)

    from eal_icnet_jax.system import jax_settings
    from eal_icnet_jax.training import runs

    jax_settings.configure()
    return runs.evaluate(config, arguments.workdir, arguments.checkpoint or "")


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet evaluate`.

    Raises:
      UserError: the options do not go together, or something cannot be read or written.
    """
    given = _given(arguments)
    if given - {"checkpoint"} == {"config", "workdir"}:
        print(evaluate_on_dataset(arguments))
        return
    if given not in (
        {"images", "labels", "checkpoint", "output"}, {"predictions", "labels", "output"},
    ):  # fmt: skip
        raise UserError(FORMS)
    for name in ("images", "predictions", "labels"):
        folder = getattr(arguments, name)
        if folder and folder.resolve() == arguments.output.resolve():
            raise UserError(f"--output is the folder of the {name}: name another one")
    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    pictures = PICTURES if arguments.pictures is None else arguments.pictures
    _check_folder_options(arguments.config_overrides, threshold, pictures, arguments.white)
    if "images" in given:
        evaluation = _evaluate_images(arguments, threshold, pictures)
    else:
        from eal_icnet_jax.evaluation.evaluation import compare_masks

        if arguments.white is not None:
            raise UserError("--white is for --images: masks have no white")
        pairs = _find_pairs(arguments.predictions, arguments.labels, "prediction")
        evaluation = compare_masks(pairs, pictures, _ignored(arguments.ignore, pairs))
    evaluation.check()
    evaluation.write(arguments.output, arguments.force)
    print(evaluation.table())
    for calibration in evaluation.calibrations.values():
        print(f"expected calibration error {100 * calibration.expected_error:.2f}%")
    plural = "s" if evaluation.images > 1 else ""
    print(f"{evaluation.images} image{plural} compared with labels")
    print(f"tables and pictures in {arguments.output}")
