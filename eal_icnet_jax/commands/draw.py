"""Draw synthetic micrographs with exact masks.

`dataset` draws a small dataset in the on-disk form of OMC, OMV, MIIC or HY5SYN, to try preparation,
training and inspection without the real one. `die` draws a whole die layer as a stitched mosaic,
and `scans` cuts one into the tiles of a microscope.
"""

import argparse
import math
import pathlib

from eal_icnet_jax.system.errors import UserError

DATASETS = ("omc", "omv", "miic", "hy5syn")

DATASET_HELP = "Draw a small dataset in the on-disk form of OMC, OMV, MIIC or HY5SYN."

DIE_HELP = """Draw a die as a mosaic, image.ome.tif, with its masks metal.ome.tif and via.ome.tif.

With --metals=2 or more, it is a stack of layers, each photographed after the removal of those above
it, in the folders layer1, layer2 and so on, and nets.csv has the net of each region.

It is drawn field of view by field of view, so that memory does not grow with the size.
"""

SCANS_HELP = """Cut a drawn die or stack into overlapping tiles, as a microscope takes them.

Tiles overlap by 15%, lie up to 15 pixels beside their place, and differ in brightness by up to 5%.
Layers above the first are turned, scaled and bent by up to some 30 pixels.
"""

SMALLEST_DIE = 64
"""Smallest side of a die in pixels."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet draw`."""
    drawings = parser.add_subparsers(dest="drawing", metavar="DRAWING", required=True)
    dataset = drawings.add_parser("dataset", help="a small dataset", description=DATASET_HELP)
    add = dataset.add_argument
    add("dataset", choices=DATASETS, help="whose on-disk form it has")
    add("folder", type=pathlib.Path, metavar="DIR", help="new folder for the dataset")
    add("--images", type=int, default=24, help="number of labelled images (24)")
    add("--size", type=int, help="side in pixels, of HY5SYN the width (512, of HY5SYN 1024)")
    add("--split", action="store_true", help="lay the files out under train/, val/ and test/")
    die = drawings.add_parser("die", help="a whole die layer", description=DIE_HELP)
    add = die.add_argument
    add("folder", type=pathlib.Path, metavar="DIR", help="new folder for the die")
    add("--size", type=int, default=16384, help="side in pixels (16384)")
    add("--seed", type=int, default=0, help="seed of everything that is drawn (0)")
    add("--electron", action="store_true", help="a scanning electron micrograph, not optical")
    add("--metal", type=pathlib.Path, metavar="MASK", help="draw this mask as metal, in its size")
    add("--metals", type=int, default=1, metavar="N", help="number of metal layers, 1 to 4 (1)")
    add("--pixel-size", type=float, default=0.1, help="side of a pixel in micrometres (0.1)")
    scans = drawings.add_parser("scans", help="the tiles of a drawn die", description=SCANS_HELP)
    add = scans.add_argument
    add("die", type=pathlib.Path, metavar="DIE", help="folder that `eal-icnet draw die` wrote")
    add("folder", type=pathlib.Path, metavar="DIR", help="new folder for the tiles")
    add("--tile", type=int, default=1024, metavar="PIXELS", help="side of a tile (1024)")
    add("--seed", type=int, default=0, help="seed of places, brightness and bends (0)")


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet draw`."""
    drawings = {"dataset": draw_dataset, "die": draw_die, "scans": draw_scans}
    drawings[arguments.drawing](arguments)


def draw_dataset(arguments: argparse.Namespace):
    """Draw a small dataset."""
    from eal_icnet_jax.datasets.ic_synthetic import sample_folder

    if arguments.images < 1:
        raise UserError(f"--images is {arguments.images}: name 1 or more")
    size = arguments.size
    if size is None:
        size = sample_folder.SIZES[arguments.dataset]
    sample_folder.write_folder(
        arguments.dataset, arguments.folder, arguments.images, size, arguments.split
    )
    print(f"{arguments.images} images with labels in {arguments.folder}")


def draw_die(arguments: argparse.Namespace):
    """Draw a die."""
    from eal_icnet_jax.datasets.ic_synthetic import die, sample_die
    from eal_icnet_jax.imaging import decoding

    height = width = arguments.size
    if arguments.metal is not None:
        mask = decoding.open_encoded(decoding.read_bytes(arguments.metal), str(arguments.metal))
        height, width = mask.shape
    if min(height, width) < SMALLEST_DIE:
        raise UserError(
            f"the die is {height}x{width}: draw at least {SMALLEST_DIE}x{SMALLEST_DIE} pixels"
        )
    if arguments.seed < 0:
        raise UserError(f"--seed is {arguments.seed}: it must be at least 0")
    if not 0 < arguments.pixel_size < math.inf:
        raise UserError(f"--pixel-size is {arguments.pixel_size}: it must be above 0 micrometres")
    if not 1 <= arguments.metals <= die.MAX_METALS:
        raise UserError(f"--metals is {arguments.metals}: name 1 to {die.MAX_METALS}")
    if arguments.metals > 1 and arguments.metal is not None:
        raise UserError("--metal draws one layer: remove --metals")
    drawn = die.Die(height, width, arguments.seed, not arguments.electron, arguments.metal,
                    arguments.metals)  # fmt: skip
    sample_die.write_die(arguments.folder, drawn, arguments.pixel_size)
    layers = "a die layer" if arguments.metals == 1 else f"{arguments.metals} layers of a die"
    print(f"{layers} of {width}x{height} pixels in {arguments.folder}")


def draw_scans(arguments: argparse.Namespace):
    """Draw the tiles of a die."""
    from eal_icnet_jax.datasets.ic_synthetic import scans

    if not 64 <= arguments.tile <= 16384:
        raise UserError(f"--tile is {arguments.tile}: name 64 to 16384 pixels")
    if arguments.seed < 0:
        raise UserError(f"--seed is {arguments.seed}: it must be at least 0")
    scan = scans.Scan(arguments.tile)
    count = scans.write_scans(arguments.die, arguments.folder, scan, arguments.seed)
    print(f"{count} tiles, named {scans.TILES}, in {arguments.folder}")
