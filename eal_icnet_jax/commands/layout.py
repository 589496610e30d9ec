"""Write masks as a layout: polygons with holes in physical units, for KLayout, Degate and others.

    eal-icnet layout metal.png --via=via.png -o out.gds --pixel-size=0.02

The ending of the output chooses GDSII (.gds), OASIS (.oas), or SVG in the form of HY5SYN's labels
(.svg). Either mask may be left out. A mask may be any image, OME-TIFF or Zarr.
"""

import argparse
import pathlib

from eal_icnet_jax.commands.layout_arguments import add_layout_options, pixel_size_of, shape_options
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector.layout_options import LAYERS, check_layout_path


def _layer(kind: str) -> str:
    return "/".join(map(str, LAYERS[kind]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet layout`."""
    parser.add_argument(
        "metal",
        nargs="?",
        type=pathlib.Path,
        metavar="METAL",
        help=f"mask of the metal, written to layer {_layer('metal')}",
    )
    parser.add_argument(
        "--via",
        type=pathlib.Path,
        metavar="MASK",
        help=f"mask of the vias, written to layer {_layer('via')}",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=pathlib.Path,
        required=True,
        metavar="FILE",
        help=".gds, .oas or .svg file to write",
    )
    add_layout_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet layout`."""
    options = shape_options(arguments)
    check_layout_path(arguments.output)
    paths = {kind: path for kind in LAYERS if (path := getattr(arguments, kind))}
    if not paths:
        raise UserError("there is no mask: name a mask of the metal, or one of the vias with --via")

    from eal_icnet_jax.imaging import mosaic_files, mosaics
    from eal_icnet_jax.vector.layout_files import layout_summary, write_layout

    images = {kind: mosaic_files.open_mosaic(path) for kind, path in paths.items()}
    shapes = [image.shape for image in images.values()]
    if len(set(shapes)) > 1:
        sizes = " and ".join("x".join(map(str, shape)) for shape in shapes)
        raise UserError(f"the masks are {sizes} (height x width): name two masks of one image")
    masks = {kind: mosaics.MosaicMask(image) for kind, image in images.items()}
    pixel_size = pixel_size_of(arguments, next(iter(images.values())).pixel_size)
    counts = write_layout(arguments.output, masks, pixel_size, options)
    print(layout_summary(arguments.output, counts))
