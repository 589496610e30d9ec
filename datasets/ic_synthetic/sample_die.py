"""A whole die, drawn as stitched mosaics with exact masks, and the nets of a stack of layers."""

import csv
import dataclasses
import functools
import pathlib
import shutil

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.imaging import mosaic_files, pyramid
from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.imaging.stack_regions import find_nets
from eal_icnet_jax.system import workers
from eal_icnet_jax.system.files import atomic_folder
from eal_icnet_jax.system.terminal import progress_bar

NET_COLUMNS = ("net", "layer", "x", "y", "left", "top", "right", "bottom", "pixels")
"""Columns of nets.csv, a row for each region: its net and layer, a pixel inside, its box, its area.

Pixels count from 0 at the upper left, and boxes include their last pixel."""


def layer_folders(folder: pathlib.Path, drawn: die.Die) -> list[pathlib.Path]:
    """Return the folder of each layer of a die, the lowest first; of one metal, the die's own."""
    if drawn.metals == 1:
        return [folder]
    return [folder / f"layer{number}" for number in range(1, drawn.metals + 1)]


def write_die(folder: pathlib.Path, drawn: die.Die, pixel_size: float):
    """Draw a die into a new folder. An error leaves no folder behind.

    Writes image.ome.tif, metal.ome.tif and, unless the metal was given, via.ome.tif. Of a stack of
    metals, these lie in folders layer1, layer2 and so on, where via.ome.tif has the vias up to the
    next metal, and nets.csv has the net of each region. The memory needed for drawing does not grow
    with the size of the die.

    Args:
      folder: must not exist.
      drawn: description of the die.
      pixel_size: side of a pixel in micrometres.

    Raises:
      UserError: the folder exists or cannot be written.
    """
    with atomic_folder(folder) as partial:
        folders = layer_folders(partial, drawn)
        total = len(folders) * np.prod(drawn.fields())
        with progress_bar("drawing", total, "field", disable=None) as bar:
            for number, layer in enumerate(folders, 1):
                layer.mkdir(exist_ok=True)
                _write_layer(layer, dataclasses.replace(drawn, number=number), pixel_size, bar)
        if drawn.metals > 1:
            _write_nets(partial / "nets.csv", folders)


def _write_layer(folder: pathlib.Path, drawn: die.Die, pixel_size: float, bar):
    """Draw a layer into a folder."""
    shape, pixel_sizes = (drawn.height, drawn.width), (pixel_size, pixel_size)
    channels = {"image": (3,) if drawn.optical else (), "metal": ()}
    if drawn.has_vias:
        channels["via"] = ()
    down, across = drawn.fields()
    groups = {
        name: pyramid.create_pyramid(
            folder / f"{name}.zarr", name, shape + channel, np.uint8, pixel_sizes
        )
        for name, channel in channels.items()
    }
    draw = functools.partial(die.draw_field, drawn)
    for index, field in enumerate(workers.map_in_processes(draw, range(down * across))):
        top, left = (die.FIELD * k for k in divmod(index, across))
        for name, group in groups.items():
            height, width = field[name].shape[:2]
            group["0"][top : top + height, left : left + width] = field[name]
        bar.update()
    for name, group in groups.items():
        pyramid.fill_levels(group)
        path = folder / f"{name}.ome.tif"
        pyramid.write_tiff(group, path, pixel_sizes, {"seed": drawn.seed})
        shutil.rmtree(folder / f"{name}.zarr")


def _write_nets(path: pathlib.Path, folders: list[pathlib.Path]):
    """Write the nets of a stack's masks."""
    names, masks = [], []
    for number, folder in enumerate(folders, 1):
        for kind in ("metal", "via"):
            if (folder / f"{kind}.ome.tif").exists():
                names.append(f"{kind}{number}")
                mosaic = mosaic_files.open_mosaic(folder / f"{kind}.ome.tif")
                masks.append(MosaicMask(mosaic, is_plain=True))
    found = find_nets(masks)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NET_COLUMNS)
        for k in np.argsort(found.nets, kind="stable"):
            row = found.nets[k] + 1, names[found.layer[k]], *found.points[k], *found.boxes[k]
            writer.writerow((*row, found.pixels[k]))
