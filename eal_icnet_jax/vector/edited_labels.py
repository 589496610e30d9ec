"""Labels of a photograph from what engineers edit: layouts, SVG, and painted images."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from eal_icnet_jax.imaging import decoding, image_folders, mosaic_files
from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.imaging.mosaics import Mosaic, blocks
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import svg_labels
from eal_icnet_jax.vector.layout_options import LAYERS
from eal_icnet_jax.vector.outlines import Mask

if TYPE_CHECKING:
    from eal_icnet_jax.vector.layout_reader import DrawnLayout

LAYOUT_ENDINGS = (".gds", ".gds2", ".gdsii", ".oas", ".oasis")
"""Endings of layout files, in lower case."""

Layers = Mapping[str, tuple[int, int]]
"""Layer and datatype of each kind, metal or via."""


@dataclasses.dataclass(frozen=True)
class EditedLabels:
    """The labels of a photograph.

    Attributes:
      masks: `[H, W]` by kind, metal or via, whichever are there.
      notes: a sentence for each thing that a user should know.
    """

    masks: dict[str, Mask]
    notes: tuple[str, ...] = ()


class LevelMask:
    """The pixels of one level of a painted image as a mask `[H, W]`, read part by part."""

    def __init__(self, mosaic: Mosaic, level: int):
        self._mosaic, self._level = mosaic, level
        self.shape = mosaic.shape

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        return self._mosaic[index] == self._level


def read_labels(
    path: pathlib.Path,
    photograph: Mosaic,
    layers: Layers = LAYERS,
    pixel_size: float | None = None,
    cell: str | None = None,
    page: int | None = None,
) -> EditedLabels:
    """Return the labels of a photograph from an edited file.

    Args:
      path: GDSII, OASIS, SVG, or an image, OME-TIFF or Zarr.
      photograph: whose pixels the labels have.
      layers: layer and datatype of each kind. In a painted image, the layer is the level.
      pixel_size: side of a pixel in micrometres, for layouts. The photograph's lower-left corner is
        the layout's origin.
      cell: name of the layout's cell, if several are not contained in others.
      page: number of the image in a file that holds several, from 1.

    Raises:
      UserError: it cannot be read, has none of the layers, or does not fit the photograph.
    """
    suffix = path.suffix.lower()
    if suffix in LAYOUT_ENDINGS:
        if pixel_size is None:
            raise ValueError("a layout needs a pixel size")
        from eal_icnet_jax.vector import layout_reader  # needs the extra `labels`

        layout = layout_reader.read_layout(path)
        drawn = layout_reader.DrawnLayout(path, layout, cell, "name one with --cell")
        return _from_layout(drawn, photograph, layers, pixel_size)
    if suffix == ".svg":
        return _from_svg(path, photograph)
    return _from_image(mosaic_files.open_mosaic(path, page=page), photograph, layers)


def _from_layout(
    file: "DrawnLayout", photograph: Mosaic, layers: Layers, pixel_size: float
) -> EditedLabels:
    extents = {
        kind: extent for kind, layer in layers.items() if (extent := file.bounds(layer)) is not None
    }
    if not extents:
        wanted = " or ".join(_layer_text(*layer) for layer in layers.values())
        drawn = ", ".join(_layer_text(*layer) for layer in file.layers()[:8]) or "none"
        raise UserError(
            f"{file.path} has nothing on layer {wanted}: it has layers {drawn}; name them with "
            "--layers"
        )
    image = file.image_box(photograph.shape, pixel_size)
    notes = []
    for kind, extent in extents.items():
        place = f"{photograph.path} with pixels of {pixel_size:g} um ({image})"
        if not extent.meets(image):
            raise UserError(
                f"the {kind} of {file.path} ({extent}) lies outside {place}: check the unit and "
                "the origin of the layout, or name --pixel-size"
            )
        if extent.reaches_beyond(image, pixel_size):
            notes.append(f"the {kind} ({extent}) reaches beyond {place}: it is cut there")
        elif extent.is_tiny_in(image):
            notes.append(
                f"the {kind} ({extent}) covers a small corner of {place}: check the layout's unit"
            )
    masks = {kind: file.mask(layers[kind], photograph.shape, pixel_size) for kind in extents}
    return EditedLabels(masks, tuple(notes))


def _layer_text(layer: int, datatype: int) -> str:
    return f"{layer}/{datatype}"


def _check_size(path: pathlib.Path, shape: tuple[int, int], photograph: Mosaic):
    """Raise a `UserError` if labels have another size than their photograph."""
    if shape != photograph.shape:
        raise UserError(
            f"{path} is {shape[0]}x{shape[1]}, and {photograph.path} is "
            f"{photograph.shape[0]}x{photograph.shape[1]} (height x width): name the photograph "
            "that it was drawn on"
        )


def _from_svg(path: pathlib.Path, photograph: Mosaic) -> EditedLabels:
    data = decoding.read_bytes(path)
    root = svg_labels.parse_xml(data, str(path))
    if not svg_labels.is_plain(root):
        return _from_drawing(data, path, photograph)
    try:
        labels = svg_labels.labels_of(root, str(path))
    except UserError:  # not in HY5SYN's form
        return _from_drawing(data, path, photograph)
    _check_size(path, (labels.height, labels.width), photograph)
    by_name = labels.rasterize()
    drawn = {"metal": labels.tracks, "via": labels.vias}
    masks = dict(zip(drawn, (by_name["label"], by_name["via_label"]), strict=True))
    return EditedLabels({kind: mask for kind, mask in masks.items() if drawn[kind]})


def _from_drawing(data: bytes, path: pathlib.Path, photograph: Mosaic) -> EditedLabels:
    from eal_icnet_jax.vector import drawn_svg, layout_reader  # need the extra `labels`

    drawing = drawn_svg.parse(data, str(path), photograph.shape)
    layout = layout_reader.DrawnLayout(path, drawing.layout)
    labels = _from_layout(layout, photograph, LAYERS, 1.0)
    left_out = f"shapes outside the layers metal and via are left out: {drawing.left_out}"
    return EditedLabels(labels.masks, (*labels.notes, *[left_out] * bool(drawing.left_out)))


def _from_image(mosaic: Mosaic, photograph: Mosaic, layers: Layers) -> EditedLabels:
    _check_size(mosaic.path, mosaic.shape, photograph)
    levels = {kind: layer for kind, (layer, _) in layers.items()}
    found = _levels(mosaic)
    if found is not None and found <= {0, *levels.values()} and found - {0}:
        masks = {kind: LevelMask(mosaic, levels[kind]) for kind in levels if levels[kind] in found}
        return EditedLabels(masks, mosaic.notes)
    mask = MosaicMask(mosaic)
    return EditedLabels({"metal": mask}, mask.notes)


def _levels(mosaic: Mosaic, most: int = 16) -> set[int] | None:
    """Return the levels of an image; None if it has colours or more than some."""
    found: set[int] = set()
    for block in blocks(mosaic.shape):
        part = mosaic[block]
        if part.ndim == 3:
            return None
        found.update(np.unique(part).tolist())
        if len(found) > most:
            return None
    return found


def stem_of(photograph: Mosaic) -> str:
    """Return the name of a photograph's labels without an ending."""
    return image_folders.stem_of(photograph.path)
