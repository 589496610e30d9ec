"""Write masks as a layout: polygons with holes in physical units, for KLayout, Degate and others.

    eal-icnet layout metal.png --via=via.png -o out.gds --pixel-size=0.02

The ending of the output chooses GDSII (.gds), OASIS (.oas), or SVG in the form of HY5SYN's labels
(.svg). Either mask may be left out. A mask may be any image, OME-TIFF or Zarr.
"""

import argparse
import pathlib

from eal_icnet_jax.commands.layout_arguments import add_layout_options, pixel_size_of, shape_options
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector.layout_options import LAYERS, check_layout_path, pixel_size_text


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
    parser.add_argument(
        "--page", type=int, metavar="N", help="number of the mask in files that hold several"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a file that another program wrote"
    )
    add_layout_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet layout`."""
    options = shape_options(arguments)
    check_layout_path(arguments.output)
    paths = {kind: path for kind in LAYERS if (path := getattr(arguments, kind))}
    if not paths:
        raise UserError("there is no mask: name a mask of the metal, or one of the vias with --via")

    from eal_icnet_jax.imaging import masks as mask_files
    from eal_icnet_jax.imaging import mosaic_files, mosaics
    from eal_icnet_jax.system.files import check_replaceable
    from eal_icnet_jax.system.terminal import warn
    from eal_icnet_jax.vector.layout_files import layout_summary, write_layout

    check_replaceable(arguments.output, arguments.force)
    images = {
        kind: mosaic_files.open_mosaic(path, page=arguments.page) for kind, path in paths.items()
    }
    shapes = [image.shape for image in images.values()]
    if len(set(shapes)) > 1:
        sizes = " and ".join("x".join(map(str, shape)) for shape in shapes)
        raise UserError(f"the masks are {sizes} (height x width): name two masks of one image")
    masks = {kind: mask_files.MosaicMask(image) for kind, image in images.items()}
    for mask in masks.values():
        for note in mask.notes:
            warn(f"{mask.mosaic.path} {note}")
    image = mosaics.image_with_pixel_size(images.values(), arguments.pixel_size)
    pixel_size = pixel_size_of(arguments, image.pixel_size if image else None)
    counts = write_layout(arguments.output, masks, pixel_size, options)
    print(layout_summary(arguments.output, counts))
    source = image.pixel_size_source if image else ""
    if pixel_size is not None and arguments.output.suffix.lower() != ".svg":
        print(pixel_size_text(pixel_size, source, arguments.pixel_size is not None))
