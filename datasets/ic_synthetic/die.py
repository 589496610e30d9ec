"""A whole die, drawn field of view by field of view, as a microscope photographs its layers.

All fields share one geometry. Each field has its own light, dust, noise and etching, so neighbours
differ in brightness and match to within a pixel, as in a stitched mosaic.
"""

import dataclasses
import functools
import math
import pathlib

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import micrograph, random_layers
from eal_icnet_jax.datasets.ic_synthetic.geometry import Layer
from eal_icnet_jax.datasets.ic_synthetic.rasterization import (
    SUPERSAMPLING,
    rasterize_metal,
    rasterize_vias,
    signed_distance,
)
from eal_icnet_jax.imaging import decoding

FIELD = 1024
"""Side of a field of view in pixels."""

MARGIN = 96
"""Width in pixels of the border that is drawn around a field; no edge reaches further."""

BLOCK = 1200
"""Approximate side in pixels of a block of one style."""

MAX_METALS = 4
"""Largest number of metal layers of a die."""

KEPT_VIAS = 0.25
"""Fraction of a layer's vias that are kept in a stack. With all of them, most metal is one net."""


@dataclasses.dataclass(frozen=True)
class Die:
    """Description of a layer of a die, as it looks after all layers above it were removed.

    A die of one metal shows some random metal below it. In a stack, the metal below is that of the
    layer below, and vias connect neighbouring layers.

    Attributes:
      height: in pixels.
      width: in pixels.
      seed: of everything that is drawn.
      optical: whether it is an RGB bright-field image; otherwise a grey scanning electron
        micrograph.
      metal: image file of a mask that is drawn instead of random metal. Then there are no vias.
      metals: number of metal layers of the die.
      number: of this layer, from 1, the lowest.
    """

    height: int
    width: int
    seed: int = 0
    optical: bool = True
    metal: pathlib.Path | None = None
    metals: int = 1
    number: int = 1

    @property
    def has_vias(self) -> bool:
        """Whether vias lie on the metal: up to the next metal, or in a die of one metal."""
        return self.metal is None and (self.metals == 1 or self.number < self.metals)

    def fields(self) -> tuple[int, int]:
        """Return the number of fields of view down and across."""
        return -(-self.height // FIELD), -(-self.width // FIELD)


class _PlacedLayer:
    """A layer whose shapes can be found by their place."""

    def __init__(self, layer: Layer):
        self._layer = layer
        points = {
            "wires": [points for points, _ in layer.wires],
            "polygons": layer.polygons,
            "holes": layer.holes,
            "vias": [[via[:2]] for via in layer.vias],
        }
        self._boxes = {name: self._bounds(shapes) for name, shapes in points.items()}

    def _bounds(self, shapes: list) -> np.ndarray:
        """Return the box (x0, y0, x1, y1) that each shape may cover, `[N, 4]`."""
        if not shapes:
            return np.empty((0, 4))
        reach = self._layer.pitch * 4
        low = [np.min(points, 0) - reach for points in shapes]
        high = [np.max(points, 0) + reach for points in shapes]
        return np.hstack([low, high])

    def part(self, x: int, y: int, size: int) -> Layer:
        """Return the shapes that may show in a square, whose corner (x, y) becomes (0, 0)."""
        part = Layer(self._layer.pitch)
        for name, box in self._boxes.items():
            inside = np.all((box[:, 2:] > (x, y)) & (box[:, :2] < (x + size, y + size)), axis=1)
            shapes = getattr(self._layer, name)
            getattr(part, name).extend(shapes[k] for k in np.flatnonzero(inside))
        return part.transformed(np.eye(2), np.array([-x, -y], float))


class DieGeometry:
    """The metal, the lower metal and the vias of a die, drawn square by square.

    Attributes:
      pitch: of the narrowest lines, in pixels.
    """

    def __init__(self, die: Die):
        rng = np.random.default_rng([die.seed, 0])
        side = max(die.height, die.width)
        blocks = max(0, round(2 * math.log2(1.2 * side / BLOCK)))
        self.pitch = random_layers.draw_pitch(rng)
        lower_pitch = self.pitch * rng.uniform(0.8, 1.8)
        lower = random_layers.random_layer(rng, side, lower_pitch, blocks=blocks)
        self._mask = self._metal = None
        vias: list = []
        if die.metals > 1:
            for number in range(1, die.number + 1):
                rng = np.random.default_rng([die.seed, 3, number])
                pitch = self.pitch * (1 + 0.15 * (number - 1))  # higher metal is wider
                layer = random_layers.random_layer(rng, side, pitch, blocks=blocks)
                is_top = number == die.metals
                layer.vias = [via for via in layer.vias if not is_top and rng.random() < KEPT_VIAS]
                below, vias = vias, list(layer.vias)
                layer.vias += below  # those of the layer below end on this one
                if number < die.number:
                    lower = layer
            self._metal, self.pitch = _PlacedLayer(layer), pitch
        elif die.metal is None:
            layer = random_layers.random_layer(rng, side, self.pitch, blocks=blocks)
            self._metal, vias = _PlacedLayer(layer), layer.vias
        else:
            self._mask, _ = decoding.decode_mask(decoding.read_bytes(die.metal), str(die.metal))
        self._lower = _PlacedLayer(lower)
        self._vias = _PlacedLayer(Layer(self.pitch, vias=list(vias)))

    def _mask_canvas(self, x: int, y: int, size: int) -> np.ndarray:
        """Return a square of the mask, supersampled, with its border repeated outwards."""
        rows, columns = (
            np.clip(np.arange(start, start + size), 0, length - 1)
            for start, length in zip((y, x), self._mask.shape, strict=True)
        )
        metal = self._mask[np.ix_(rows, columns)].astype(np.uint8)
        return np.kron(metal, np.ones((SUPERSAMPLING, SUPERSAMPLING), np.uint8))

    def distances(self, x: int, y: int, size: int) -> dict[str, np.ndarray]:
        """Return the signed distances to the drawn edges in a square.

        Args:
          x: left column of the square.
          y: top row of the square.
          size: side of the square in pixels.

        Returns:
          Distances `[size, size]` of `metal`, `lower` and `vias`, in pixels, positive inside.
        """
        lower = rasterize_metal(self._lower.part(x, y, size), size)
        if self._metal is None:
            metal = self._mask_canvas(x, y, size)
            vias = np.zeros_like(metal)
        else:
            metal = rasterize_metal(self._metal.part(x, y, size), size)
            vias = rasterize_vias(self._vias.part(x, y, size), size)
        canvases = {"metal": metal, "lower": lower, "vias": vias}
        return {name: signed_distance(canvas) for name, canvas in canvases.items()}


@functools.lru_cache(1)
def geometry_of(die: Die) -> DieGeometry:
    """Return the geometry of a die, which is kept for its next field."""
    return DieGeometry(die)


def draw_field(die: Die, index: int) -> dict[str, np.ndarray]:
    """Draw one field of view.

    Args:
      die: the whole layer.
      index: of the field, counted row by row.

    Returns:
      `image` `[H, W]` or `[H, W, 3]` uint8, and the masks `metal` and `via` `[H, W]` uint8 of 0 and
      255. H and W are `FIELD`, except for fields at the die's right and lower edge.
    """
    geometry = geometry_of(die)
    row, column = divmod(index, die.fields()[1])
    top, left = row * FIELD, column * FIELD
    layer = () if die.metals == 1 else (die.number,)
    rng = np.random.default_rng([die.seed, 1, index, *layer])
    look = np.random.default_rng([die.seed, 2, *layer])
    rounding = geometry.pitch * look.uniform(0.02, 0.06)
    roughness = look.uniform(0.15, 0.45) if die.optical else look.uniform(0.3, 0.6)
    distances = geometry.distances(left - MARGIN, top - MARGIN, FIELD + 2 * MARGIN)
    for name in ("metal", "lower"):
        distances[name] = micrograph.etched(
            rng, distances[name], rounding=rounding, roughness=roughness
        )
    if die.optical:
        image = micrograph.optical_micrograph(rng, **distances, look=look)
    else:
        image = micrograph.electron_micrograph(rng, **distances, compressed=False, look=look)
    arrays = {
        "image": image,
        "metal": 255 * (distances["metal"] > 0).astype(np.uint8),
        "via": 255 * (distances["vias"] > 0).astype(np.uint8),
    }
    inside = (
        slice(MARGIN, MARGIN + min(FIELD, die.height - top)),
        slice(MARGIN, MARGIN + min(FIELD, die.width - left)),
    )
    return {name: np.ascontiguousarray(array[inside]) for name, array in arrays.items()}
