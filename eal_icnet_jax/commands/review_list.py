"""List the places of a prediction that a person should look at first.

    eal-icnet review-list photo.tif -o places

Predicts the photograph as `predict` does, with a map of its uncertainty, and looks for places where
another threshold that the network's calibration allows would join two wires, cut one, or let one
appear or vanish. Squares of the photograph are ranked by the errors to expect there. Writes
places.csv, crops/ with a picture of each square, and the masks as a layout. `klayout -rm
DIR/open_in_klayout.py` shows it over the photograph, with the places as markers.
"""

import argparse
import pathlib

from eal_icnet_jax.commands.parser import WHITE_HELP, add_network_arguments, scale_factor
from eal_icnet_jax.system.errors import UserError

COUNT, SIDE = 50, 128
"""Defaults of --count and --size."""

SHOWN = 10
"""Number of squares that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet review-list`."""
    add = parser.add_argument
    add("input", type=pathlib.Path, metavar="PHOTO", help="an image or a mosaic")
    add("-o", "--output", type=pathlib.Path, required=True, metavar="DIR", help="for the list")
    add_network_arguments(parser)
    add("--calibration", type=pathlib.Path, metavar="FILE",
        help="metrics.json that `evaluate` wrote for this network (default: probabilities are "
        "taken for what they say, and thresholds from 0.1 to 0.9 for plausible)")  # fmt: skip
    add("--count", type=int, default=COUNT, metavar="N",
        help="largest number of squares (%(default)s)")  # fmt: skip
    add("--size", type=int, default=SIDE, metavar="PIXELS",
        help="side of a square (%(default)s)")  # fmt: skip
    add("--tta", action="store_true",
        help="predict flips and quarter turns too, whose spread is part of the uncertainty; takes "
        "eight times as long")  # fmt: skip
    add("--scale", type=scale_factor, default="auto", metavar="FACTOR", help="as for predict")
    add("--white", type=int, metavar="LEVEL", help=WHITE_HELP)
    add("--page", type=int, metavar="N", help="number of the image in files that hold several")
    add("--pixel-size", type=float, metavar="MICROMETRES",
        help="side of a pixel (default: as the photograph's file states it, otherwise 1)",
    )  # fmt: skip
    add("--first", type=pathlib.Path, metavar="FILE",
        help="places.json of an earlier list of this photograph: on large photographs, its squares "
        "are predicted before the rest, into DIR/first")  # fmt: skip
    add("--format", choices=("tiff", "zarr"), help="of the masks and maps, as for predict")
    add("--force", action="store_true", help="replace files that another program wrote")


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet review-list`.

    Raises:
      UserError: the options are wrong, or something cannot be read or written.
    """
    if arguments.count < 1 or arguments.size < 16:
        raise UserError(
            f"--count is {arguments.count} and --size {arguments.size}: name 1 square or more, of "
            "16 pixels or more"
        )

    from eal_icnet_jax.evaluation.calibration import Calibration, read_calibrations
    from eal_icnet_jax.imaging import image_folders, levels, mosaic_files
    from eal_icnet_jax.inference.prediction import PredictionRun
    from eal_icnet_jax.inference.prediction_models import load_for_prediction
    from eal_icnet_jax.inference.prediction_options import LayoutOutput, PredictionOptions
    from eal_icnet_jax.review import first_squares, review_list
    from eal_icnet_jax.review.klayout_view import write_view
    from eal_icnet_jax.system import jax_settings
    from eal_icnet_jax.system.files import cannot_be_written
    from eal_icnet_jax.system.terminal import warn
    from eal_icnet_jax.vector.layout_options import square_pixel_size

    photograph = mosaic_files.open_mosaic(arguments.input, page=arguments.page)
    pixel_size = square_pixel_size(photograph.pixel_size, arguments.pixel_size)
    calibrations = read_calibrations(arguments.calibration) if arguments.calibration else []
    first = _squares_of(arguments.first, photograph) if arguments.first else []
    name = image_folders.stem_of(arguments.input)
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_written(arguments.output, error) from error
    options = PredictionOptions(
        input=arguments.input,
        output=arguments.output,
        probabilities=True,
        uncertainty=True,
        threshold=arguments.threshold,
        tta=arguments.tta,
        scale=arguments.scale,
        white=arguments.white,
        page=arguments.page,
        format=arguments.format,
        layout=LayoutOutput(arguments.output / f"{name}.gds", pixel_size=arguments.pixel_size),
        force=arguments.force,
    )
    jax_settings.configure()
    model = load_for_prediction(arguments.checkpoint)

    def predict_first(image):
        first_squares.predict_squares(image, first, arguments.threshold, arguments.output)

    prediction = PredictionRun(model, options, before=predict_first)
    (result,) = prediction.results()
    if result.error:
        raise UserError(result.error)
    for note in result.notes:
        warn(f"{arguments.input}: {note}")
    outputs = prediction.outputs
    if calibrations and len(calibrations) < len(outputs):
        raise UserError(
            f"{arguments.calibration} has the calibration of {len(calibrations)} outputs, and the "
            f"network has {len(outputs)}: name the metrics.json of this network"
        )
    photograph = levels.in_full_range(photograph, arguments.white)
    maps = review_list.PredictedMaps.of_files(photograph, arguments.output, outputs)
    calibrations = calibrations or [Calibration.nothing()] * len(outputs)
    by_output = dict(zip(outputs, calibrations, strict=False))
    squares = review_list.find_squares(
        maps, by_output, arguments.threshold, arguments.size, arguments.count
    )
    pixel_size = pixel_size or 1.0
    review_list.write_list(arguments.output, maps, squares, pixel_size, arguments.force)
    try:
        write_view(arguments.output, f"{name}.gds", review_list.FILES[2], photograph, pixel_size)
    except ImportError:
        warn(
            "nothing is written for KLayout, because its Python module is missing: pip install "
            "'eal-icnet-jax[labels]'"
        )
    for rank, square in enumerate(squares[:SHOWN], 1):
        first, more = square.places[0], len(square.places) - 1
        print(
            f"{rank:3d}  x {square.columns.start}, y {square.rows.start}  "
            f"{square.expected_errors:.2f} errors to expect: {first.about} ({first.output})"
            + (f", and {more} more" if more else "")
        )
    print(f"{_counted(len(squares), 'square')} of {arguments.size} pixels in {arguments.output}")


def _squares_of(path: pathlib.Path, photograph) -> list[tuple[slice, slice]]:
    """Return the rows and columns of the squares of an earlier list of a photograph.

    Raises:
      UserError: it cannot be read, or is of a larger photograph.
    """
    from eal_icnet_jax.review.review_list import read_squares

    squares = [square.slices for square in read_squares(path)]
    height, width = photograph.shape
    if any(rows.stop > height or columns.stop > width for rows, columns in squares):
        raise UserError(
            f"{path} lists places beyond {photograph.path}: name the list of an earlier "
            "prediction of this photograph"
        )
    return squares


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
