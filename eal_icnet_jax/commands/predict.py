"""Write the masks of images, and of mosaics of any size.

    eal-icnet predict IMAGE_OR_FOLDER -o FOLDER

Reads 8- and 16-bit grey or colour PNG, JPEG, TIFF, BMP and Zarr from 32x32 pixels up. The mask of
each image is a PNG of 0 and 255 under the image's name. An image of more than 2048x2048 pixels is
a mosaic: it is read, predicted in overlapping windows and written piece by piece, as tiled OME-TIFF
or OME-Zarr with a pyramid. If that is interrupted, the same command goes on. --layout=out.gds also
writes the masks of one image as GDSII, OASIS or SVG.
"""

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING

from eal_icnet_jax.commands.layout_arguments import add_layout_options, shape_options
from eal_icnet_jax.commands.parser import (
    WHITE_HELP,
    add_network_arguments,
    add_process_arguments,
    scale_factor,
)
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.terminal import printable, warn
from eal_icnet_jax.vector.layout_options import LAYOUT_SUFFIXES

if TYPE_CHECKING:
    from eal_icnet_jax.inference.prediction import ImageResult, PredictionRun
    from eal_icnet_jax.inference.prediction_options import PredictionOptions

NAMED_FAILURES = 5
"""Largest number of skipped images that the final error names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet predict`."""
    add = parser.add_argument
    add("input", type=pathlib.Path, metavar="INPUT", help="an image, or a folder of images")
    add("-o", "--output", type=pathlib.Path, required=True, metavar="DIR", help="for the masks")
    add_network_arguments(parser)
    add("--scale", type=scale_factor, default="auto", metavar="FACTOR",
        help="magnification before prediction (auto: so that wires have the width that the network "
        "was trained for)")  # fmt: skip
    add("--tta", action="store_true",
        help="average over flips and quarter turns, which takes eight times as long")  # fmt: skip
    add(
        "--multiscale",
        action="store_true",
        help="average over 0.71, 1 and 1.41 times the magnification, which takes 3.5 times as long",
    )
    add("--white", type=int, metavar="LEVEL", help=WHITE_HELP)
    add("--page", type=int, metavar="N",
        help="number of the image in files that hold several, from 1")  # fmt: skip
    add("--force", action="store_true", help="replace files that another program wrote")
    add("--probabilities", action="store_true", help="also write NAME_probability, 16 bits")
    add("--uncertainty", action="store_true",
        help="also write NAME_uncertainty, 16 bits: how near to 1/2 the probability is, or with "
        "--tta the spread over the views where that is larger")  # fmt: skip
    add("--overlay", action="store_true", help="also write NAME_overlay.png, except for mosaics")
    add("--remove-specks", type=int, metavar="AREA",
        help="remove foreground regions of fewer pixels (0 for none; by default those below the "
        "square of half a wire's width, where the network knows one)")  # fmt: skip
    add("--fill-holes", type=int, default=0, metavar="AREA",
        help="then fill holes of fewer pixels (0: none)")  # fmt: skip

    add = parser.add_argument_group("mosaics").add_argument
    add("--tiles", metavar="PATTERN",
        help="INPUT is a folder of tiles with names such as tile_{row}_{column}.png")  # fmt: skip
    add("--tile-overlap", type=lambda text: float(text) / 100, default=0.0, metavar="PERCENT",
        help="part of a tile's side that neighbours share (0: they lie side by side)")  # fmt: skip
    add("--window", type=int, metavar="PIXELS",
        help="side of a window (512, or that of the crops of a network that knows a width of "
        "wires; once magnified)")  # fmt: skip
    add("--overlap", type=int, metavar="PIXELS", help="of windows (an eighth of a window)")
    add("--batch", type=int, metavar="N",
        help="number of windows at once (1 per CPU, 8 per accelerator)")  # fmt: skip
    add("--format", choices=("tiff", "zarr"), help="of the results (default: as the input)")

    group = parser.add_argument_group("layout")
    group.add_argument("--layout", type=pathlib.Path, metavar="FILE",
        help=f"also write this {', '.join(LAYOUT_SUFFIXES)} file")  # fmt: skip
    group.add_argument("--kinds", type=lambda text: tuple(text.split(",")), metavar="KIND[,KIND]",
        help="kind of each of the model's masks (metal, or metal,via)")  # fmt: skip
    add_layout_options(group)
    add_process_arguments(parser)


def _options(arguments: argparse.Namespace) -> "PredictionOptions":
    from eal_icnet_jax.inference.prediction_options import LayoutOutput, PredictionOptions

    layout = None
    if arguments.layout:
        shapes = shape_options(arguments)
        layout = LayoutOutput(arguments.layout, arguments.kinds, arguments.pixel_size, shapes)
    names = (
        "input", "output", "threshold", "probabilities", "uncertainty", "overlay",
        "remove_specks", "fill_holes", "tiles", "tile_overlap", "window", "overlap", "batch",
        "format", "scale", "tta", "multiscale", "white", "page", "force",
    )  # fmt: skip
    return PredictionOptions(layout=layout, **{name: getattr(arguments, name) for name in names})


def _print_result(result: "ImageResult", total: int, layout: pathlib.Path | None):
    head = f"[{result.number}/{total}] {printable(result.path.name)}"
    if result.error:
        if total > 1:
            print(f"{head}  skipped: {printable(result.error)}", file=sys.stderr)
        return
    for note in result.notes:
        warn(f"{result.path}: {note}")
    height, width = result.size
    time = "existed already" if result.seconds is None else f"{result.seconds:.2f} s"
    percent = 100 * result.foreground
    print(f"{head}  {width}x{height}  {percent:.1f}% foreground  {time}", flush=True)
    if result.layout_counts is not None:
        from eal_icnet_jax.vector.layout_files import layout_summary

        print(layout_summary(layout, result.layout_counts))
        if result.pixel_size_text and layout.suffix.lower() != ".svg":
            print(result.pixel_size_text)


def _predict_all(run: "PredictionRun", arguments: argparse.Namespace) -> list[str]:
    """Predict all images, print the result of each, and return the errors of those skipped."""
    errors, total = [], len(run.paths)
    for result in run.results():
        _print_result(result, total, arguments.layout)
        if result.error:
            errors.append(result.error)
    if total > 1 or not errors:
        print(f"{total - len(errors)} of {total} images in {arguments.output}", flush=True)
    return errors


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet predict`.

    Raises:
      UserError: the options are wrong, or an image was skipped.
    """
    options = _options(arguments)

    from eal_icnet_jax.inference.prediction import PredictionRun
    from eal_icnet_jax.inference.prediction_models import load_for_prediction
    from eal_icnet_jax.system import jax_settings, process_group

    group = arguments.coordinator, arguments.processes, arguments.process, arguments.distributed
    with process_group.joined(*group) as processes:
        jax_settings.configure()
        model = load_for_prediction(arguments.checkpoint)
        prediction = PredictionRun(model, options, processes)
        errors = _predict_all(prediction, arguments)
    # An error inside `joined` would end the other processes before their images are done.
    if errors and len(prediction.paths) == 1:
        raise UserError(errors[0])
    if errors:
        named = "; ".join(errors[:NAMED_FAILURES])
        raise UserError(
            f"{len(errors)} of the images could not be predicted and were skipped: {named}"
            f"{'; ...' if len(errors) > NAMED_FAILURES else ''}"
        )
