"""Random metal layers, made of blocks in several styles."""

import collections
import itertools

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic.geometry import DUTY, Layer, Range
from eal_icnet_jax.datasets.ic_synthetic.styles import STYLES


def _split(rng: np.random.Generator, box, smallest: float, depth: int) -> list:
    """Cut a box (x0, y0, x1, y1) into blocks no narrower than `smallest`."""
    x0, y0, x1, y1 = box
    along_x = (x1 - x0) > (y1 - y0)
    extent = (x1 - x0) if along_x else (y1 - y0)
    if depth == 0 or extent < 2 * smallest:
        return [box]
    cut = rng.uniform(smallest, extent - smallest)
    if along_x:
        parts = (x0, y0, x0 + cut, y1), (x0 + cut, y0, x1, y1)
    else:
        parts = (x0, y0, x1, y0 + cut), (x0, y0 + cut, x1, y1)
    return [leaf for part in parts for leaf in _split(rng, part, smallest, depth - 1)]


def _clip(layer: Layer, box, gap: float) -> Layer:
    """Return the shapes inside a block, half a gap off its borders, so that blocks do not touch."""
    x0, y0, x1, y1 = box[0] + gap / 2, box[1] + gap / 2, box[2] - gap / 2, box[3] - gap / 2
    out = Layer(layer.pitch, layer.duty)
    for points, width in layer.wires:
        lower, upper = (x0 + width / 2, y0 + width / 2), (x1 - width / 2, y1 - width / 2)
        if lower[0] >= upper[0] or lower[1] >= upper[1]:
            continue
        out.wires.extend((run, width) for run in runs_inside(points, lower, upper))
    for points in layer.polygons:
        clipped = np.clip(points, (x0, y0), (x1, y1))
        if np.all(np.ptp(clipped, axis=0) > gap / 2):
            out.polygons.append(clipped)
    for name in ("holes", "vias"):
        for item in getattr(layer, name):
            corner = np.asarray(item[:2]) if name == "vias" else item
            if np.all(corner > (x0 + gap / 4, y0 + gap / 4)) and np.all(
                corner < (x1 - gap / 4, y1 - gap / 4)
            ):
                getattr(out, name).append(item)
    return out


def runs_inside(points: np.ndarray, lower, upper) -> list:
    """Return the parts of a polyline `[N, 2]` inside the box from `lower` to `upper`."""
    runs, run = [], []
    for start, end in itertools.pairwise(points):
        delta = end - start
        enter, leave = 0.0, 1.0
        for axis in range(2):
            if delta[axis] == 0:
                if not lower[axis] <= start[axis] <= upper[axis]:
                    leave = -1.0
                continue
            t = sorted((b[axis] - start[axis]) / delta[axis] for b in (lower, upper))
            enter, leave = max(enter, t[0]), min(leave, t[1])
        if enter >= leave:
            if run:
                runs.append(np.array(run))
            run = []
            continue
        if not run or enter > 0:
            if run:
                runs.append(np.array(run))
            run = [start + enter * delta]
        run.append(start + leave * delta)
        if leave < 1:
            runs.append(np.array(run))
            run = []
    if run:
        runs.append(np.array(run))
    return runs


def draw_pitch(rng: np.random.Generator) -> float:
    """Return a random line pitch in pixels: median 51, from 27 to 128, as measured on MIIC."""
    return float(np.clip(51 * np.exp(0.38 * rng.standard_normal()), 27, 128))


def without_close_vias(vias: list, distance: float = 1.4) -> list:
    """Return the vias without those that are too close to an earlier one.

    Args:
      vias: (x, y, radius) of each.
      distance: smallest distance between two vias, relative to the sum of their radii.
    """
    kept: dict[tuple[int, int], list] = collections.defaultdict(list)
    cell = 2 * distance * max((radius for *_, radius in vias), default=1)
    out = []
    for x, y, radius in vias:
        column, row = int(x // cell), int(y // cell)
        near = (
            other
            for i, j in itertools.product((column - 1, column, column + 1), (row - 1, row, row + 1))
            for other in kept.get((i, j), ())
        )
        if all(np.hypot(u - x, v - y) > distance * (r + radius) for u, v, r in near):
            kept[column, row].append((x, y, radius))
            out.append((x, y, radius))
    return out


def random_layer(
    rng: np.random.Generator,
    size: int,
    pitch: float,
    *,
    blocks: int = 2,
    angle: float = 0.0,
    duty: Range = DUTY,
) -> Layer:
    """Return a random layer that covers a square.

    Args:
      rng: NumPy generator.
      size: side of the square in pixels.
      pitch: of the narrowest lines, in pixels.
      blocks: how many times the square may be cut in two.
      angle: rotation about the centre, in radians.
      duty: range of the width of lines relative to the pitch.
    """
    margin = 0.1 * size
    layer = Layer(pitch, duty)
    for box in _split(rng, (-margin, -margin, size + margin, size + margin), 4 * pitch, blocks):
        style = list(STYLES)[rng.choice(len(STYLES), p=list(STYLES.values()))]
        width, height = box[2] - box[0], box[3] - box[1]
        swap = rng.random() < 0.5
        if swap:
            width, height = height, width
        matrix = np.array([[0.0, 1.0], [1.0, 0.0]]) if swap else np.eye(2)
        scale = rng.choice([1.0, 1.5, 2.5], p=(0.7, 0.2, 0.1))
        block = style(rng, width, height, pitch * scale, duty)
        layer.extend(_clip(block.transformed(matrix, np.array(box[:2])), box, 0.5 * pitch))
    layer.vias = without_close_vias(layer.vias)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    centre = np.array([size / 2, size / 2])
    return layer.transformed(rotation, centre - rotation @ centre)
