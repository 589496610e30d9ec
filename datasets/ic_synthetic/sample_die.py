"""A whole die layer, drawn as a stitched mosaic with exact masks."""

import functools
import pathlib
import shutil

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.imaging import pyramid
from eal_icnet_jax.system import workers
from eal_icnet_jax.system.files import atomic_folder
from eal_icnet_jax.system.terminal import progress_bar


def write_die(folder: pathlib.Path, drawn: die.Die, pixel_size: float):
    """Draw a die into a new folder. An error leaves no folder behind.

    Writes image.ome.tif, metal.ome.tif and, unless the metal was given, via.ome.tif. The memory
    needed does not grow with the size of the die.

    Args:
      folder: must not exist.
      drawn: description of the die.
      pixel_size: side of a pixel in micrometres.

    Raises:
      UserError: the folder exists or cannot be written.
    """
    shape, pixel_sizes = (drawn.height, drawn.width), (pixel_size, pixel_size)
    channels = {"image": (3,) if drawn.optical else (), "metal": (), "via": ()}
    if drawn.metal is not None:
        del channels["via"]
    down, across = drawn.fields()
    with atomic_folder(folder) as partial:
        groups = {
            name: pyramid.create_pyramid(
                partial / f"{name}.zarr", name, shape + channel, np.uint8, pixel_sizes
            )
            for name, channel in channels.items()
        }
        draw = functools.partial(die.draw_field, drawn)
        with progress_bar("drawing", down * across, "field", disable=None) as bar:
            for index, field in enumerate(workers.map_in_processes(draw, range(down * across))):
                top, left = (die.FIELD * k for k in divmod(index, across))
                for name, group in groups.items():
                    height, width = field[name].shape[:2]
                    group["0"][top : top + height, left : left + width] = field[name]
                bar.update()
        for name, group in groups.items():
            pyramid.fill_levels(group)
            path = partial / f"{name}.ome.tif"
            pyramid.write_tiff(group, path, pixel_sizes, {"seed": drawn.seed})
            shutil.rmtree(partial / f"{name}.zarr")
