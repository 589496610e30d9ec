"""Draws a whole die layer as a stitched mosaic, with its exact masks.

    python -m eal_icnet_jax.sample_die DIR [--size=16384] [--electron] [--metal=MASK]

Writes image.ome.tif, metal.ome.tif and via.ome.tif, drawn field of view by field of view; memory
does not grow with the size. --metal draws the metal of a mask instead of random metal.
"""

import argparse
import functools
import pathlib
import shutil

import numpy as np
from tqdm import tqdm

from eal_icnet_jax import images, mosaics, parallel
from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.errors import UserError, command_parser, run_command
from eal_icnet_jax.files import new_folder


def write_die(folder: pathlib.Path, drawn: die.Die, pixel_size: float):
    """Draws a die, whole or not at all.

    Args:
      folder: not there yet.
      drawn: what is drawn.
      pixel_size: side of a pixel in micrometres.

    Raises:
      UserError: the folder exists or cannot be written.
    """
    shape, sizes = (drawn.height, drawn.width), (pixel_size, pixel_size)
    channels = {"image": (3,) if drawn.optical else (), "metal": (), "via": ()}
    if drawn.metal is not None:
        del channels["via"]
    down, across = drawn.fields()
    with new_folder(folder) as partial:
        groups = {
            name: mosaics.create(partial / f"{name}.zarr", name, shape + more, np.uint8, sizes)
            for name, more in channels.items()
        }
        draw = functools.partial(die.draw_field, drawn)
        fields = parallel.in_processes(draw, down * across)
        bar = tqdm(total=down * across, unit="field", desc="drawing", disable=None)
        with bar:
            for index, field in enumerate(fields):
                top, left = (die.FIELD * k for k in divmod(index, across))
                for name, group in groups.items():
                    height, width = field[name].shape[:2]
                    group["0"][top : top + height, left : left + width] = field[name]
                bar.update()
        for name, group in groups.items():
            mosaics.fill_levels(group)
            mosaics.write_tiff(group, partial / f"{name}.ome.tif", sizes, {"seed": drawn.seed})
            shutil.rmtree(partial / f"{name}.zarr")


def parser() -> argparse.ArgumentParser:
    out = command_parser("sample_die", __doc__)
    add = out.add_argument
    add("folder", type=pathlib.Path, help="to write, not there yet")
    add("--size", type=int, default=16384, help="pixels on a side (16384)")
    add("--seed", type=int, default=0, help="of what is drawn (0)")
    add("--electron", action="store_true", help="a scanning electron micrograph, not optical")
    add("--metal", type=pathlib.Path, help="draw this mask, in its size")
    add("--pixel-size", type=float, default=0.1, help="side of a pixel in micrometres (0.1)")
    return out


def run(arguments: argparse.Namespace):
    shape = (arguments.size, arguments.size)
    if arguments.metal is not None:
        shape = images.read(arguments.metal).shape[:2]
    if min(shape) < 64:
        raise UserError(f"the die is {shape[0]}x{shape[1]}: draw at least 64x64 pixels")
    if not arguments.pixel_size > 0:
        raise UserError(f"--pixel-size is {arguments.pixel_size}: it must be above 0 micrometres")
    drawn = die.Die(*shape, arguments.seed, not arguments.electron, arguments.metal)
    write_die(arguments.folder, drawn, arguments.pixel_size)
    print(f"a die layer of {shape[1]}x{shape[0]} pixels in {arguments.folder}")


def main(argv: list[str] | None = None):
    run_command(parser(), run, argv)


if __name__ == "__main__":
    main()
