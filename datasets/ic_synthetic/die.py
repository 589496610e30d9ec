"""A whole die layer, drawn field of view by field of view, as a microscope photographs it.

The geometry is one for the die; each field has its own light, dust, noise and etching, and so
neighbours differ in brightness and meet to within a pixel, as in a stitched mosaic.
"""

import dataclasses
import functools
import math
import pathlib

import numpy as np
from eal_icnet_jax.datasets.ic_synthetic import layout, micrograph

from eal_icnet_jax import images

FIELD = 1024
"""Side of a field of view in pixels."""

MARGIN = 96
"""Pixels around a field that are drawn with it: further than edges reach."""

BLOCK = 1200
"""Pixels a block of one style has on a side, about."""


@dataclasses.dataclass(frozen=True)
class Die:
    """What is drawn.

    height, width: in pixels.
    seed: of everything that is drawn.
    optical: an RGB bright-field image, else a grey scanning electron micrograph.
    metal: image file of a mask to draw instead of random metal; then there are no vias.
    """

    height: int
    width: int
    seed: int = 0
    optical: bool = True
    metal: pathlib.Path | None = None

    def fields(self) -> tuple[int, int]:
        """How many fields of view it takes, down and across."""
        return -(-self.height // FIELD), -(-self.width // FIELD)


class Layers:
    """A die's geometry: pieces of it are found by their place."""

    def __init__(self, die: Die):
        rng = np.random.default_rng([die.seed, 0])
        side = max(die.height, die.width)
        blocks = max(0, round(2 * math.log2(1.2 * side / BLOCK)))
        self.pitch = layout.draw_pitch(rng)
        self._below = self._placed(
            layout.random_layer(rng, side, self.pitch * rng.uniform(0.8, 1.8), blocks=blocks)
        )
        self._mask = self._metal = None
        if die.metal is None:
            self._metal = self._placed(layout.random_layer(rng, side, self.pitch, blocks=blocks))
        else:
            self._mask = images.to_mask(images.read(die.metal))[0]

    @staticmethod
    def _placed(layer: layout.Layer) -> tuple[layout.Layer, dict[str, np.ndarray]]:
        """The layer, and of each of its shapes the box (x0, y0, x1, y1)."""
        reach = layer.pitch * 4

        def boxes(points):
            low = [np.min(p, 0) - reach for p in points]
            high = [np.max(p, 0) + reach for p in points]
            return np.hstack([low, high]) if low else np.empty((0, 4))

        vias = [[via[:2]] for via in layer.vias]
        wires = [points for points, _ in layer.wires]
        found = {"wires": wires, "polygons": layer.polygons, "holes": layer.holes, "vias": vias}
        return layer, {name: boxes(points) for name, points in found.items()}

    @staticmethod
    def _part(placed, x: int, y: int, size: int) -> layout.Layer:
        """What of a layer may show in a square, whose corner becomes (0, 0)."""
        layer, boxes = placed
        part = layout.Layer(layer.pitch)
        for name, box in boxes.items():
            inside = np.all((box[:, 2:] > (x, y)) & (box[:, :2] < (x + size, y + size)), axis=1)
            shapes = getattr(layer, name)
            getattr(part, name).extend(shapes[k] for k in np.flatnonzero(inside))
        return part.transformed(np.eye(2), np.array([-x, -y], float))

    def distances(self, x: int, y: int, size: int) -> dict[str, np.ndarray]:
        """Signed distances `[size, size]` to the drawn edges of metal, lower metal and vias."""
        below = layout.rasterize_metal(self._part(self._below, x, y, size), size)
        if self._metal is None:
            rows, columns = (np.clip(np.arange(a, a + size), 0, n - 1)
                             for a, n in zip((y, x), self._mask.shape, strict=True))  # fmt: skip
            metal = self._mask[np.ix_(rows, columns)].astype(np.uint8)
            metal = np.kron(metal, np.ones((layout.SUPERSAMPLING,) * 2, np.uint8))
            vias = np.zeros_like(metal)
        else:
            part = self._part(self._metal, x, y, size)
            metal, vias = layout.rasterize_metal(part, size), layout.rasterize_vias(part, size)
        drawn = {"metal": metal, "lower": below, "vias": vias}
        return {name: layout.signed_distance(canvas) for name, canvas in drawn.items()}


@functools.lru_cache(1)
def layers_of(die: Die) -> Layers:
    return Layers(die)


def draw_field(die: Die, index: int) -> dict[str, np.ndarray]:
    """One field of view, counted row by row.

    Returns:
      image `[h, w]` or `[h, w, 3]`, metal and via `[h, w]` of 0 and 255, uint8; h and w are `FIELD`
      but for what goes over the die's edge.
    """
    layers = layers_of(die)
    row, column = divmod(index, die.fields()[1])
    top, left = row * FIELD, column * FIELD
    rng = np.random.default_rng([die.seed, 1, index])
    look = np.random.default_rng([die.seed, 2])
    rounding = layers.pitch * look.uniform(0.02, 0.06)
    roughness = look.uniform(0.15, 0.45) if die.optical else look.uniform(0.3, 0.6)
    distances = layers.distances(left - MARGIN, top - MARGIN, FIELD + 2 * MARGIN)
    for name in ("metal", "lower"):
        distances[name] = micrograph.shaped(
            rng, distances[name], rounding=rounding, roughness=roughness
        )
    if die.optical:
        image = micrograph.optical_micrograph(rng, **distances, look=look)
    else:
        image = micrograph.electron_micrograph(rng, **distances, compressed=False, look=look)
    drawn = {"image": image}
    for name, key in (("metal", "metal"), ("via", "vias")):
        drawn[name] = 255 * (distances[key] > 0).astype(np.uint8)
    inside = (
        slice(MARGIN, MARGIN + min(FIELD, die.height - top)),
        slice(MARGIN, MARGIN + min(FIELD, die.width - left)),
    )
    return {name: np.ascontiguousarray(value[inside]) for name, value in drawn.items()}
