"""Geometry of a metal layer: wires, plates and vias.

All coordinates are (x, y) in pixels of the micrograph. Pixel centres are at integers.
"""

import dataclasses

import numpy as np

Range = tuple[float, float]
"""Lowest and highest value."""

DUTY = 0.34, 0.62
"""Range of the width of a line relative to the pitch."""

SHAPES = ("wires", "polygons", "holes", "vias")
"""Attributes of a layer that hold shapes."""


@dataclasses.dataclass
class Layer:
    """Geometry of one metal layer.

    Attributes:
      pitch: of the narrowest lines, in pixels.
      duty: range of the lines' width relative to the pitch.
      wires: points `[N, 2]` and width of each wire. Ends are square, corners are round.
      polygons: points `[N, 2]` of each filled polygon.
      holes: points `[N, 2]` of each polygon that is cut out of wires and polygons.
      vias: (x, y, radius) of each via.
    """

    pitch: float
    duty: Range = DUTY
    wires: list = dataclasses.field(default_factory=list)
    polygons: list = dataclasses.field(default_factory=list)
    holes: list = dataclasses.field(default_factory=list)
    vias: list = dataclasses.field(default_factory=list)

    def transformed(self, matrix: np.ndarray, offset: np.ndarray) -> "Layer":
        """Return the layer under `matrix @ point + offset`, a rotation or a swap of the axes."""

        def move(points):
            return np.asarray(points, float) @ matrix.T + offset

        return Layer(
            self.pitch,
            self.duty,
            [(move(points), width) for points, width in self.wires],
            [move(points) for points in self.polygons],
            [move(points) for points in self.holes],
            [(*move((x, y)), radius) for x, y, radius in self.vias],
        )

    def extend(self, other: "Layer"):
        """Add the shapes of another layer."""
        for name in SHAPES:
            getattr(self, name).extend(getattr(other, name))


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Return the corners `[4, 2]` of a rectangle."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def log_uniform(rng: np.random.Generator, span: Range) -> float:
    """Return a random number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(*np.log(span))))
