"""Geometry of a photographed layer: wires of any width and density, vias of any shape.

It is random, or a part of a real layout that a mask file holds. Lengths are in pixels.
"""

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import cv2
import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import random_layers
from eal_icnet_jax.datasets.ic_synthetic.geometry import Layer, Range, log_uniform
from eal_icnet_jax.datasets.ic_synthetic.micrograph import etched
from eal_icnet_jax.datasets.ic_synthetic.rasterization import (
    SUPERSAMPLING,
    fill_polygons,
    rasterize_metal,
    rasterize_vias,
    signed_distance,
)
from eal_icnet_jax.imaging import decoding, image_folders
from eal_icnet_jax.imaging.wire_width import median_wire_width
from eal_icnet_jax.system.errors import UserError

VIA_SUFFIX = "_via"
"""Ending of the name of a file that holds the vias of a layout: layer.png and layer_via.png."""


class Distances(NamedTuple):
    """Signed distances `[size, size]` to edges, positive inside.

    metal: of the labelled layer.
    vias: of its vias.
    lower: of one to four layers below.
    contacts: of the contacts between those.
    removed: of a layer above that was etched away and left traces.
    wire_width: typical width of the labelled layer's wires.
    """

    metal: np.ndarray
    vias: np.ndarray
    lower: tuple[np.ndarray, ...]
    contacts: np.ndarray
    removed: np.ndarray
    wire_width: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometryRanges:
    """Ranges from which each image draws its geometry.

    Attributes:
      wire_width: in pixels; its logarithm is uniform.
      duty: width of the wires relative to their pitch.
      kept_wires: fraction of the wires that are drawn; the rest of the layer is empty.
      kept_vias: fraction of the vias that are drawn.
      via_size: radius of a via relative to half of the wire's width.
      via_spread: factor between the smallest and the largest via of an image; below 1 all have one
        size.
      via_pad: radius of the metal around a via relative to the via's.
      via_length: length of a via relative to its width; above 1 it is a bar.
      bars: fraction of the images whose vias are partly bars.
      rows: fraction of the images whose vias partly stand in rows of two to four.
      wide: fraction of the images with parts whose wires are several times as wide.
      wide_factor: how many times.
      tilt: standard deviation of the rotation in radians.
      rotated: fraction of the images that are rotated by any angle.
      roughness: standard deviation of the edges relative to the wire's width.
      rounding: blur of the corners relative to the wire's width.
      lower_width: width of the lines of other layers relative to that of the wires.
      real: fraction of the images that show a real layout, if there is one.
    """

    wire_width: Range = (4, 80)
    duty: Range = (0.2, 0.75)
    kept_wires: Range = (0.15, 1)
    kept_vias: Range = (0, 1)
    via_size: Range = (0.5, 1.1)
    via_spread: Range = (0.7, 2.5)
    via_pad: Range = (1.1, 1.9)
    via_length: Range = (1.3, 9)
    bars: float = 0.4
    rows: float = 0.35
    wide: float = 0.45
    wide_factor: Range = (2.5, 10)
    tilt: float = 0.01
    rotated: float = 0.15
    roughness: Range = (0, 0.04)
    rounding: Range = (0.01, 0.25)
    lower_width: Range = (0.4, 5)
    real: float = 0.5


class RealLayout(NamedTuple):
    """A layout that mask files hold.

    metal: `[H, W]` bool.
    vias: `[H, W]` bool, or None if they have no file.
    wire_width: median width of its wires in pixels.
    """

    metal: np.ndarray
    vias: np.ndarray | None
    wire_width: float


@functools.lru_cache(4)
def real_layout(path: pathlib.Path) -> RealLayout:
    """Read a layout of a mask file, and of the file of its vias if there is one.

    Raises:
      UserError: a file cannot be read, or the mask is empty.
    """
    metal, _ = decoding.decode_mask(decoding.read_bytes(path), str(path))
    via_path = path.with_name(f"{path.stem}{VIA_SUFFIX}{path.suffix}")
    vias = None
    if via_path.exists():
        vias, _ = decoding.decode_mask(decoding.read_bytes(via_path), str(via_path))
        if vias.shape != metal.shape:
            raise UserError(f"{via_path} and {path} differ in size: make them one size")
    width = median_wire_width(metal)
    if not width:
        raise UserError(f"{path} has no metal: remove it")
    return RealLayout(metal, vias, width)


def find_layouts(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Return the mask files of the layouts in a folder.

    Raises:
      UserError: it is not a folder, or holds none.
    """
    files = image_folders.find_images(folder)
    layouts = tuple(path for path in files if not path.stem.endswith(VIA_SUFFIX))
    if not layouts:
        raise UserError(f"{folder} holds vias only: add the masks of their metal")
    return layouts


def _via_polygons(
    rng: np.random.Generator, vias: list, ranges: GeometryRanges, scale: float
) -> list[np.ndarray]:
    """Return the outline of each via: rounded, square or a bar.

    Args:
      vias: (x, y, radius) of each.
      scale: factor on all radii.
    """
    bars = rng.uniform(0, 0.5) if rng.random() < ranges.bars else 0.0
    length = rng.uniform(*ranges.via_length)
    # Points of a superellipse: exponent 2 is a circle, a large one is a square.
    exponent = float(rng.choice([2.0, 2.0, 3.0, 8.0]))
    angles = np.arange(32) * (np.pi / 16)
    cos, sin = np.cos(angles), np.sin(angles)
    unit = np.stack([np.sign(cos) * abs(cos) ** (2 / exponent),
                     np.sign(sin) * abs(sin) ** (2 / exponent)], 1)  # fmt: skip
    out = []
    for x, y, radius in vias:
        points = unit * radius * scale
        if rng.random() < bars:
            axis = rng.integers(2)
            # A bar is a circle whose halves are pulled apart.
            points[:, axis] += np.sign(points[:, axis]) * radius * scale * (length - 1)
        out.append(points + np.array([x, y]))
    return out


def _thinned(rng: np.random.Generator, items: list, kept: float) -> list:
    return [item for item in items if rng.random() < kept]


def _of_many_sizes(rng: np.random.Generator, vias: list, spread: float) -> list:
    return [(x, y, radius * spread ** rng.random()) for x, y, radius in vias]


def _random_canvases(
    rng: np.random.Generator, size: int, wire_width: float, ranges: GeometryRanges
) -> tuple[np.ndarray, np.ndarray]:
    """Return supersampled canvases of random metal and vias."""
    duty = rng.uniform(*ranges.duty)
    layer = random_layers.random_layer(
        rng,
        size,
        wire_width / duty,
        blocks=int(rng.integers(0, 5)),
        angle=_angle(rng, ranges),
        duty=(0.9 * duty, 1.1 * duty),
    )
    layer.wires = _thinned(rng, layer.wires, rng.uniform(*ranges.kept_wires))
    vias = _thinned(rng, layer.vias, rng.uniform(*ranges.kept_vias))
    vias = _of_many_sizes(rng, vias, max(1.0, rng.uniform(*ranges.via_spread)))
    layer.vias = []
    # `random_layer` gives vias a third of the width as radius.
    grown = rng.uniform(*ranges.via_size) * 0.5 / 0.35
    vias = random_layers.without_close_vias(vias, 1.15 * grown)
    shapes_seed = int(rng.integers(2**32))
    pad = rng.uniform(*ranges.via_pad)
    metal = rasterize_metal(layer, size)
    via = np.zeros_like(metal)
    vias, between = _in_rows(rng, vias, grown, ranges)
    for canvas, scale in ((metal, grown * pad), (via, grown)):
        shapes = np.random.default_rng(shapes_seed)  # pad and via have one shape
        fill_polygons(canvas, _via_polygons(shapes, vias, ranges, scale), 1)
    fill_polygons(metal, _via_polygons(rng, between, ranges, grown * pad), 1)
    if rng.random() < ranges.wide:
        _widen_parts(rng, metal, via, size, wire_width / duty, ranges)
    return metal, via


def _in_rows(
    rng: np.random.Generator, vias: list, scale: float, ranges: GeometryRanges
) -> tuple[list, list]:
    """Repeat some vias, so that two to four stand in a row.

    Args:
      vias: (x, y, radius) of each.
      scale: factor on all radii.

    Returns:
      All vias, and the points halfway between the neighbours of a row, where there must be metal.
      Both are (x, y, radius).
    """
    in_rows = rng.uniform(0, 0.7) if rng.random() < ranges.rows else 0.0
    spacing = rng.uniform(2.5, 3.5) * scale
    out, between = [], []
    for x, y, radius in vias:
        count = int(rng.integers(2, 5)) if rng.random() < in_rows else 1
        first, step = np.array([x, y]), spacing * radius * np.eye(2)[rng.integers(2)]
        out += [(*(first + k * step), radius) for k in range(count)]
        between += [(*(first + (k + 0.5) * step), radius) for k in range(count - 1)]
    return out, between


def _widen_parts(
    rng: np.random.Generator,
    metal: np.ndarray,
    via: np.ndarray,
    size: int,
    pitch: float,
    ranges: GeometryRanges,
):
    """Put much wider wires in up to three rectangles of the canvases, a gap off the others."""
    factor = log_uniform(rng, ranges.wide_factor)
    wide = rasterize_metal(
        random_layers.random_layer(rng, size, pitch * factor, blocks=1, duty=(0.5, 0.9)), size
    )
    side, gap = len(metal), round(0.4 * pitch * SUPERSAMPLING)
    for _ in range(rng.integers(1, 4)):
        height, width = rng.uniform(0.25, 0.9, 2) * side
        top, left = rng.uniform(-0.2, 0.8, 2) * side
        rows = slice(max(0, int(top)), int(top + height))
        columns = slice(max(0, int(left)), int(left + width))
        metal[rows, columns] = via[rows, columns] = 0
        inner = (
            slice(rows.start + gap, max(rows.start + gap, rows.stop - gap)),
            slice(columns.start + gap, max(columns.start + gap, columns.stop - gap)),
        )
        metal[inner] = wide[inner]


def _angle(rng: np.random.Generator, ranges: GeometryRanges) -> float:
    return (
        rng.uniform(-np.pi, np.pi) if rng.random() < ranges.rotated else rng.normal(0, ranges.tilt)
    )


def _real_canvases(
    rng: np.random.Generator, size: int, wire_width: float, layout: RealLayout, angle: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return supersampled canvases of a random part of a real layout."""
    side = size * SUPERSAMPLING
    scale = wire_width / layout.wire_width * SUPERSAMPLING
    height, width = layout.metal.shape
    reach = side / scale / 2
    centre = [
        rng.uniform(min(reach, length / 2), max(length - reach, length / 2))
        for length in (width, height)
    ]
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    mirrored = rng.choice([-1.0, 1.0])
    matrix = np.array([[cos * mirrored, -sin], [sin * mirrored, cos]])
    if rng.random() < 0.5:
        matrix = matrix[::-1]
    offset = side / 2 - matrix @ centre
    corners = np.linalg.solve(matrix, np.array([[0, 0, side, side], [0, side, 0, side]])
                              - offset[:, None])  # fmt: skip
    low = np.clip(np.floor(corners.min(1)).astype(int) - 2, 0, (width - 1, height - 1))
    high = np.ceil(corners.max(1)).astype(int) + 2
    part = slice(low[1], high[1]), slice(low[0], high[0])
    offset = offset + matrix @ low
    out = []
    for mask in (layout.metal, layout.vias):
        canvas = np.zeros((side, side), np.uint8)
        if mask is not None:
            values = mask[part].astype(np.float32)
            if scale < 1:
                values = cv2.GaussianBlur(values, (0, 0), 0.4 / scale)
            warped = cv2.warpAffine(values, np.column_stack([matrix, offset]), (side, side))
            canvas[warped >= 0.5] = 1
        out.append(canvas)
    return tuple(out)


def draw_distances(
    rng: np.random.Generator,
    size: int,
    ranges: GeometryRanges,
    layouts: tuple[pathlib.Path, ...] = (),
) -> Distances:
    """Draw the geometry of one photograph.

    Args:
      rng: random numbers of this image.
      size: side of the image in pixels.
      ranges: of its geometry.
      layouts: mask files of real layouts.
    """
    wire_width = log_uniform(rng, ranges.wire_width)
    if layouts and rng.random() < ranges.real:
        layout = real_layout(layouts[rng.integers(len(layouts))])
        angle = _angle(rng, ranges)
        metal, vias = _real_canvases(rng, size, wire_width, layout, angle)
    else:
        metal, vias = _random_canvases(rng, size, wire_width, ranges)
    distance = etched(
        rng,
        signed_distance(metal),
        rounding=wire_width * rng.uniform(*ranges.rounding),
        roughness=wire_width * rng.uniform(*ranges.roughness),
    )
    lower = [_other_layer(rng, size, wire_width, ranges) for _ in range(rng.integers(1, 5))]
    stripes = _other_layer(rng, size, wire_width, ranges)
    return Distances(
        metal=distance,
        vias=signed_distance(vias),
        lower=tuple(signed_distance(rasterize_metal(layer, size)) for layer in lower),
        contacts=signed_distance(rasterize_vias(lower[0], size)),
        removed=signed_distance(rasterize_metal(stripes, size)),
        wire_width=wire_width,
    )


def _other_layer(
    rng: np.random.Generator, size: int, wire_width: float, ranges: GeometryRanges
) -> Layer:
    """Return another random layer, whose lines may be narrower or wider."""
    duty = rng.uniform(*ranges.duty)
    layer = random_layers.random_layer(
        rng,
        size,
        max(wire_width * log_uniform(rng, ranges.lower_width), 4.0) / duty,
        blocks=int(rng.integers(0, 4)),
        angle=rng.normal(0, ranges.tilt),
        duty=(0.9 * duty, 1.1 * duty),
    )
    grown = rng.uniform(*ranges.via_size) * 0.5 / 0.35
    layer.vias = [(x, y, grown * radius) for x, y, radius in layer.vias]
    return layer
