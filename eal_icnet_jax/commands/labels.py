"""Turn what you drew or corrected over a photograph into labels for training.

    eal-icnet labels fixed.gds --like=photo.tif -o label

The source is a GDSII or OASIS file, an SVG of Inkscape's or HY5SYN's, or a painted image, OME-TIFF
or Zarr of the photograph's size. Metal is written to the output folder, vias to a folder beside it
whose name begins with via_. The labels have the photograph's name and pixels.
"""

import argparse
import pathlib

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector.layout_options import (
    LAYERS,
    check_pixel_size,
    layer_of,
    pixel_size_text,
    square_pixel_size,
)

DEFAULT_LAYERS = ",".join(f"{kind}={a}/{b}" for kind, (a, b) in LAYERS.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet labels`."""
    add = parser.add_argument
    add("source", type=pathlib.Path, metavar="SOURCE", help="what was drawn")
    add("--like", type=pathlib.Path, required=True, metavar="PHOTO",
        help="the photograph that it was drawn on")  # fmt: skip
    add("-o", "--output", type=pathlib.Path, required=True, metavar="DIR",
        help="folder of the labels")  # fmt: skip
    add(
        "--layers",
        default=DEFAULT_LAYERS,
        metavar="KIND=LAYER[/DATATYPE],...",
        help="layers of the source; of a painted image, LAYER is the level (%(default)s)",
    )
    add(
        "--pixel-size",
        type=float,
        metavar="MICROMETRES",
        help="side of a pixel (default: as the photograph's file states it, otherwise 1)",
    )
    add("--cell", metavar="NAME", help="cell of a layout that has several topmost ones")
    add("--page", type=int, metavar="N", help="number of the image in files that hold several")
    add("--force", action="store_true", help="replace files that another program wrote")


def _layers(text: str) -> dict[str, tuple[int, int]]:
    """Return the layer and datatype of each kind from --layers."""
    layers: dict[str, tuple[int, int]] = {}
    for part in text.split(","):
        kind, _, layer = part.partition("=")
        if kind in layers:
            raise UserError(f"--layers is {text}: name one layer for {kind}")
        try:
            layers[kind] = layer_of(layer)
        except ValueError:
            kind = ""
        if kind not in LAYERS:
            raise UserError(f"--layers is {text}: name layers as metal=1/0,via=2/0")
    return layers


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet labels`."""
    check_pixel_size(arguments.pixel_size)

    from eal_icnet_jax.imaging import mask_files, mosaic_files
    from eal_icnet_jax.system.errors import os_error_cause
    from eal_icnet_jax.system.files import check_replaceable
    from eal_icnet_jax.system.terminal import warn
    from eal_icnet_jax.vector import edited_labels

    layers = _layers(arguments.layers)
    if arguments.source.suffix.lower() == ".svg" and arguments.layers != DEFAULT_LAYERS:
        raise UserError(
            "--layers is for layouts and painted images: name the layers of an SVG metal and via"
        )
    photograph = mosaic_files.open_mosaic(arguments.like)
    pixel_size = None
    if arguments.source.suffix.lower() in edited_labels.LAYOUT_ENDINGS:
        pixel_size = square_pixel_size(photograph.pixel_size, arguments.pixel_size)
        if pixel_size is None:
            warn(f"pixel size of {arguments.like} unknown, 1 um assumed: name --pixel-size")
            pixel_size = 1.0
        else:
            is_named = arguments.pixel_size is not None
            print(pixel_size_text(pixel_size, photograph.pixel_size_source, is_named))
    labels = edited_labels.read_labels(
        arguments.source, photograph, layers, pixel_size, arguments.cell, arguments.page
    )
    for note in labels.notes:
        warn(f"{arguments.source}: {note}")
    folder = arguments.output.resolve() if not arguments.output.name else arguments.output
    name = edited_labels.stem_of(photograph) + mask_files.ending_of(photograph.shape)
    folders = {"metal": folder, "via": folder.with_name(f"via_{folder.name}")}
    paths = {kind: folders[kind] / name for kind in labels.masks}
    for kind in set(folders) - set(paths):
        if (folders[kind] / name).exists():
            warn(f"{folders[kind] / name} is of an earlier run and stays, and {arguments.source} "
                 f"has no {kind}: remove it if there is none")  # fmt: skip
    for path in paths.values():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent} cannot be made: {os_error_cause(error)}") from error
        check_replaceable(path, arguments.force)
    for kind, mask in labels.masks.items():
        share = mask_files.write(paths[kind], mask, photograph.pixel_size)
        print(f"{kind}: {100 * share:.2f}% of the pixels, {paths[kind]}")
