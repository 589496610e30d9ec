"""Options of the commands that write layouts."""

import argparse

from eal_icnet_jax.vector.layout_options import (
    VIA_SHAPES,
    ShapeOptions,
    check_pixel_size,
    square_pixel_size,
)


def add_layout_options(parser):
    """Add the options that `shape_options` and `pixel_size_of` evaluate.

    Args:
      parser: an `argparse.ArgumentParser`, or a group of one.
    """
    defaults = ShapeOptions()
    parser.add_argument(
        "--pixel-size",
        type=float,
        metavar="MICROMETRES",
        help="side of a pixel (default: as the image's file states it, otherwise 1)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="PIXELS",
        default=defaults.tolerance,
        help="largest distance by which outlines are simplified, 0 for none (%(default)s)",
    )
    parser.add_argument(
        "--manhattan", action="store_true", help="horizontal and vertical edges only"
    )
    parser.add_argument(
        "--jog",
        type=float,
        metavar="PIXELS",
        default=defaults.jog,
        help="with --manhattan, largest step that is straightened, 0 for none (%(default)s)",
    )
    parser.add_argument(
        "--via-shape",
        choices=VIA_SHAPES,
        default=defaults.via_shape,
        help="how vias are drawn (%(default)s)",
    )


def shape_options(arguments: argparse.Namespace) -> ShapeOptions:
    """Return the shape options of a command line, and check its pixel size as well.

    Raises:
      UserError: an option has a value that makes no sense.
    """
    check_pixel_size(arguments.pixel_size)
    return ShapeOptions(
        tolerance=arguments.tolerance,
        manhattan=arguments.manhattan,
        jog=arguments.jog,
        via_shape=arguments.via_shape,
    )


def pixel_size_of(arguments: argparse.Namespace, known: tuple[float, float] | None) -> float | None:
    """Return the side of a pixel in micrometres from --pixel-size or the image, None if unknown.

    Args:
      arguments: of the command.
      known: height and width of a pixel in micrometres according to the image file.

    Raises:
      UserError: pixels are not square.
    """
    return square_pixel_size(known, arguments.pixel_size)
