"""Files that show a layout over its photograph in KLayout, with the places to review.

klayout -rm places/open_in_klayout.py
"""

import itertools
import pathlib

import cv2
import numpy as np

from eal_icnet_jax.imaging import pixel_values, png
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.overlays import ORANGE, SKY_BLUE
from eal_icnet_jax.system.files import MADE_BY, write_atomically
from eal_icnet_jax.vector.layout_options import LAYERS

MACRO, PROPERTIES, BACKGROUND = "open_in_klayout.py", "layers.lyp", "background.png"
"""Names of the files."""

LARGEST_BACKGROUND = 4096
"""Largest side of the picture of the photograph in pixels. KLayout keeps it in memory."""

STRIP = 1024
"""Rows of the photograph that are read at once."""

SCRIPT = '''"""Opens a layout over its photograph: klayout -rm {macro}. Written by {software}."""

import os

import pya

try:
    folder = os.path.dirname(os.path.abspath(__file__))
except NameError:
    folder = {folder!r}

window = pya.MainWindow.instance()
window.load_layout(os.path.join(folder, {layout!r}), 1)
view = window.current_view()
view.load_layer_props(os.path.join(folder, {properties!r}))
photograph = pya.Image(os.path.join(folder, {background!r}))
photograph.pixel_width, photograph.pixel_height = {width!r}, {height!r}
photograph.trans = pya.DCplxTrans()  # its lower-left corner is the origin
photograph.z_position = -1
view.insert_image(photograph)
places = os.path.join(folder, {places!r})
if os.path.exists(places):
    number = view.create_rdb("places to review")
    view.rdb(number).load(places)
    view.show_rdb(number, view.active_cellview_index())
view.max_hier()
view.zoom_fit()
'''


def background(mosaic: Mosaic) -> np.ndarray:
    """Return a photograph as RGB uint8 of at most `LARGEST_BACKGROUND` pixels a side."""
    height, width = mosaic.shape
    factor = min(1.0, LARGEST_BACKGROUND / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    rows_out = np.linspace(0, height, -(-height // STRIP) + 1).round().astype(int)
    strips = []
    for first, end in itertools.pairwise(rows_out):
        strip = pixel_values.to_unit_range(mosaic[first:end, 0:width], 3)
        top, bottom = round(first * size[1] / height), round(end * size[1] / height)
        if bottom > top:
            shape = size[0], bottom - top
            strips.append(cv2.resize(strip, shape, interpolation=cv2.INTER_AREA))
    return np.rint(255 * np.clip(np.concatenate(strips), 0, 1)).astype(np.uint8)


def write_properties(path: pathlib.Path):
    """Write the colours of the layers, which colour-blind people can tell apart."""
    import klayout.lay as lay

    view = lay.LayoutView()
    for (kind, (layer, datatype)), colour in zip(LAYERS.items(), (ORANGE, SKY_BLUE), strict=True):
        node = lay.LayerProperties()
        node.source, node.name = f"{layer}/{datatype}", f"{kind} {layer}/{datatype}"
        node.frame_color = node.fill_color = int.from_bytes(bytes(colour), "big")
        node.dither_pattern, node.width = 1, 2  # hollow, so that the photograph shows
        view.insert_layer(view.end_layers(), node)
    view.save_layer_props(str(path))


def write_view(
    folder: pathlib.Path, layout: str, places: str, photograph: Mosaic, pixel_size: float
):
    """Write what opens a layout in KLayout over its photograph.

    Args:
      folder: that holds the layout.
      layout: name of its file.
      places: name of the file of markers, which may be missing.
      photograph: under it.
      pixel_size: side of its pixels in micrometres.

    Raises:
      UserError: a file cannot be written.
      ImportError: klayout is not installed.
    """
    write_properties(folder / PROPERTIES)
    picture = background(photograph)
    png.write(folder / BACKGROUND, picture)
    height, width = photograph.shape
    text = SCRIPT.format(
        layout=layout,
        places=places,
        software=MADE_BY.decode(),
        macro=MACRO,
        folder=str(folder.resolve()),
        properties=PROPERTIES,
        background=BACKGROUND,
        width=pixel_size * width / picture.shape[1],
        height=pixel_size * height / picture.shape[0],
    )
    write_atomically(folder / MACRO, text)
