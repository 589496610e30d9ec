"""Layout files of masks: GDSII, OASIS and SVG."""

import datetime
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gdstk
import numpy as np
import shapely

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import MADE_BY, atomic_file, write_atomically
from eal_icnet_jax.system.terminal import warn
from eal_icnet_jax.vector import svg_labels
from eal_icnet_jax.vector.layout_options import LAYERS, ShapeOptions, check_layout_path
from eal_icnet_jax.vector.outlines import Mask
from eal_icnet_jax.vector.shapes import layout_polygons

MAX_VERTICES = 4000
"""Maximum number of vertices of a polygon in a GDSII record. A larger polygon is cut."""

MAX_COORDINATE = 2**31 - 1
"""Largest coordinate in grid steps: GDSII stores 32 bits, and KLayout reads no more from OASIS."""

MIN_PIXEL_SIZE = 1e-6
"""Smallest side of a pixel in micrometres that a layout's units can express: a picometre."""


def write_layout(
    path: str | os.PathLike,
    masks: Mapping[str, Mask],
    pixel_size: float | None = None,
    options: ShapeOptions | None = None,
) -> dict[str, int]:
    """Write masks as a layout, completely or not at all.

    Args:
      path: ends in .gds, .oas or .svg. An SVG holds the masks' pixels exactly, as HY5SYN's labels
        do, and neither `pixel_size` nor `options` apply.
      masks: `[H, W]` of one size by kind, `metal` or `via`; non-zero is inside.
      pixel_size: side of a pixel in micrometres. If it is None, 1 is assumed with a warning.
      options: how outlines become shapes, by default `ShapeOptions()`.

    Returns:
      The number of shapes of each kind.

    Raises:
      UserError: the path has another ending, the coordinates exceed 32 bits, or the file cannot be
        written.
    """
    path = pathlib.Path(path)
    check_layout_path(path)
    if path.suffix.lower() == ".svg":
        return _write_svg(path, masks)
    if pixel_size is None:
        warn(f"pixel size unknown, 1 um assumed in {path}: name --pixel-size")
        pixel_size = 1.0
    options = options or ShapeOptions()
    height, width = next(iter(masks.values())).shape
    _check_extent(path, max(height, width), pixel_size)
    library = gdstk.Library(MADE_BY.decode(), unit=1e-6, precision=_grid_step(pixel_size))
    library.set_property("SOFTWARE", [MADE_BY.decode()])  # OASIS has no name of a library
    cell = library.new_cell(re.sub(r"\W", "_", path.stem, flags=re.ASCII)[:32] or "TOP")
    counts = {}
    for kind, mask in masks.items():
        polygons = layout_polygons(mask, kind, options)
        counts[kind] = len(polygons)
        _check_extent(path, _reach(polygons, height), pixel_size)
        for polygon in polygons:
            cell.add(*_to_gdstk(polygon, height, pixel_size, *LAYERS[kind]))
    with atomic_file(path) as partial:
        if path.suffix.lower() == ".gds":
            epoch = datetime.datetime(1980, 1, 1)  # so that equal masks give equal files
            library.write_gds(partial, max_points=MAX_VERTICES, timestamp=epoch)
        else:
            library.write_oas(partial, validation="crc32")
        _check_complete(partial, path.suffix.lower(), len(cell.polygons))
    return counts


def _grid_step(pixel_size: float) -> float:
    """Return the grid step of a layout in metres.

    It is a nanometre, or for small pixels the power of ten that is a hundredth of a pixel or less.
    If pixels are whole nanometres, half a pixel is a whole number of steps.

    Args:
      pixel_size: side of a pixel in micrometres.

    Raises:
      UserError: the pixel size is out of range.
    """
    if not MIN_PIXEL_SIZE <= pixel_size < float("inf"):
        raise UserError(
            f"--pixel-size is {pixel_size}: it must be at least {MIN_PIXEL_SIZE:g} micrometres"
        )
    # Rounded, because the logarithm of a power of ten may be slightly too small.
    return 10.0 ** min(-9, math.floor(round(math.log10(pixel_size), 9)) - 8)


def _check_extent(path: pathlib.Path, pixels: float, pixel_size: float):
    """Raise a `UserError` if a layout cannot hold a coordinate of so many pixels."""
    steps = pixels * pixel_size * 1e-6 / _grid_step(pixel_size)
    if steps > MAX_COORDINATE:
        raise UserError(
            f"{path} cannot hold {math.ceil(pixels)} pixels of {pixel_size:g} micrometres, which "
            f"are {steps:.3g} steps of its grid, more than 32 bits: name a smaller --pixel-size"
        )


def _reach(polygons: Sequence[shapely.Polygon], height: int) -> float:
    """Return the largest coordinate of polygons, in pixels, where y counts upwards too.

    A circle may reach beyond the image.
    """
    bounds = shapely.bounds(polygons)
    return max(np.abs(bounds).max(), np.abs(height - bounds[:, 1::2]).max()) if polygons else 0


def _check_complete(path: pathlib.Path, suffix: str, polygons: int):
    """Raise an `OSError` if a file is incomplete: gdstk ignores a full disk, for example."""
    try:
        if suffix == ".gds":  # may hold more polygons, as large ones were cut
            is_complete = gdstk.gds_info(path)["num_polygons"] >= polygons
        else:
            is_complete, _ = gdstk.oas_validate(path)
    except OSError:
        is_complete = False
    if not is_complete:
        raise OSError("the file is incomplete, perhaps because the disk is full")


def _to_gdstk(
    polygon: shapely.Polygon, height: int, pixel_size: float, layer: int, datatype: int
) -> list[gdstk.Polygon]:
    """Return a polygon in micrometres with y upwards. Cuts join holes to the outline."""
    rings: list[Any] = []
    for ring in (polygon.exterior, *polygon.interiors):
        points = np.asarray(ring.coords)[:-1]
        rings.append(np.stack([points[:, 0], height - points[:, 1]], 1) * pixel_size)
    if len(rings) == 1:
        return [gdstk.Polygon(rings[0], layer=layer, datatype=datatype)]
    precision = 1e-3 * pixel_size
    return gdstk.boolean(rings[:1], rings[1:], "not", precision, layer, datatype)


def _write_svg(path: pathlib.Path, masks: Mapping[str, Mask]) -> dict[str, int]:
    """Write masks in the form of HY5SYN's labels."""
    empty = np.zeros(next(iter(masks.values())).shape, bool)
    tracks, vias = (np.asarray(masks.get(kind, empty)[:, :]) != 0 for kind in ("metal", "via"))
    labels = svg_labels.Labels.from_masks(tracks, vias)
    write_atomically(path, f"{labels.to_svg()}<!-- {MADE_BY.decode()} -->\n")
    return {"metal": len(labels.tracks), "via": len(labels.vias)}


def layout_summary(path: pathlib.Path, counts: dict[str, int]) -> str:
    """Return a line that says what `write_layout` wrote."""
    return f"{', '.join(f'{count:,} {kind}' for kind, count in counts.items())} shapes in {path}"
