"""Random IC layers as geometry: wires, plates and vias of one metal layer.

All coordinates are (x, y) in pixels of the micrograph, pixel centres at integers.
"""

import collections
import dataclasses
import itertools

import cv2
import numpy as np

SUPERSAMPLING = 2
"""Geometry is rasterised this much finer than the micrograph."""

FRACTION_BITS = 4
"""Of the coordinates that OpenCV's drawing takes."""


@dataclasses.dataclass
class Layer:
    """Geometry of one metal layer.

    wires: (points `[N, 2]`, width) each; ends are square, corners round.
    polygons: points `[N, 2]` each.
    holes: points `[N, 2]` each, cut out of everything else.
    vias: (x, y, radius) each.
    pitch: of the narrowest lines, in pixels.
    """

    pitch: float
    wires: list = dataclasses.field(default_factory=list)
    polygons: list = dataclasses.field(default_factory=list)
    holes: list = dataclasses.field(default_factory=list)
    vias: list = dataclasses.field(default_factory=list)

    def transformed(self, matrix: np.ndarray, offset: np.ndarray) -> "Layer":
        """The layer under `matrix @ point + offset`, a rotation or a swap of the axes."""

        def move(points):
            return np.asarray(points, float) @ matrix.T + offset

        return Layer(
            self.pitch,
            [(move(points), width) for points, width in self.wires],
            [move(points) for points in self.polygons],
            [move(points) for points in self.holes],
            [(*move((x, y)), radius) for x, y, radius in self.vias],
        )

    def extend(self, other: "Layer"):
        for name in ("wires", "polygons", "holes", "vias"):
            getattr(self, name).extend(getattr(other, name))


def _box(x0, y0, x1, y1) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def _wire_width(rng, pitch: float) -> float:
    return pitch * rng.uniform(0.34, 0.62)


def _routing(rng, width: float, height: float, pitch: float) -> Layer:
    """Wires that follow horizontal tracks, step between them and end where they meet another."""
    layer = Layer(pitch)
    columns, rows = int(width / pitch) + 2, int(height / pitch) + 2
    taken = np.zeros((rows, columns), bool)
    line = _wire_width(rng, pitch)
    density = rng.uniform(0.75, 1.0)
    turn = rng.uniform(0.05, 0.3)
    diagonal = rng.random() < 0.35
    starts = np.argwhere(~taken)
    # Tracks fill from the left, so that wires run long before they meet.
    starts = starts[np.lexsort((rng.random(len(starts)), starts[:, 1] // 3))]
    for row, column in starts:
        if taken[row, column] or rng.random() > density:
            continue
        path = [(column, row)]
        taken[row, column] = True
        length = 1 + int(rng.lognormal(1.7, 0.7))
        for _ in range(length):
            x, y = path[-1]
            step = (1, 0)
            if rng.random() < turn:
                step = (1 if diagonal else 0, rng.choice([-1, 1]))
            x, y = x + step[0], y + step[1]
            if not (0 <= x < columns and 0 <= y < rows) or taken[y, x]:
                break
            if step[0] and step[1] and (taken[y, x - 1] and taken[y - step[1], x]):
                break
            taken[y, x] = True
            path.append((x, y))
        points = (np.array(path, float) - 0.5) * pitch
        points[:, 0] += rng.uniform(-0.15, 0.15) * pitch
        if len(path) == 1:
            stub = np.array([pitch * rng.uniform(0, 0.5), 0])
            points = np.vstack([points, points + stub])
        layer.wires.append((points, line))
        for x, y in points[[0, -1]]:
            if rng.random() < 0.55:
                layer.vias.append((x, y, line * rng.uniform(0.3, 0.4)))
    return layer


def _bus(rng, width: float, height: float, pitch: float) -> Layer:
    """Parallel lines that bend together, by 45 or 90 degrees."""
    layer = Layer(pitch)
    line = _wire_width(rng, pitch)
    bend = rng.uniform(0.2, 0.8) * width
    slope = rng.choice([-1.0, 1.0])
    kind = rng.choice(["straight", "diagonal", "corner", "jog"])
    drop = rng.uniform(1, 4) * pitch
    far = 2 * (width + height)
    for k in range(-int(far / pitch), int(far / pitch)):
        y = (k + 0.5) * pitch
        # Lines after the bend keep their distance when each bends a little later.
        if kind == "straight":
            points = [(-pitch, y), (width + pitch, y)]
        elif kind == "diagonal":
            x = bend - slope * (np.sqrt(2) - 1) * y
            points = [(-far, y), (x, y), (x + far, y + slope * far)]
        elif kind == "corner":
            x = bend - slope * y
            points = [(-far, y), (x, y), (x, y + slope * far)]
        else:
            x = bend - slope * (np.sqrt(2) - 1) * y
            points = [(-far, y), (x, y), (x + drop, y + slope * drop), (far, y + slope * drop)]
        if rng.random() < 0.9:
            layer.wires.append((np.array(points, float), line))
            x, y = points[1] if kind != "straight" else (rng.uniform(0, width), y)
            if rng.random() < 0.3:
                layer.vias.append((x, y, line * rng.uniform(0.3, 0.4)))
    return layer


def _comb(rng, width: float, height: float, pitch: float) -> Layer:
    """Two rails whose fingers interlock."""
    layer = Layer(pitch)
    line = _wire_width(rng, pitch)
    rail = line * rng.uniform(1.2, 2.5)
    top, bottom = rail / 2, height - rail / 2
    for y in (top, bottom):
        layer.wires.append((np.array([(-pitch, y), (width + pitch, y)]), rail))
    for k in range(int(width / pitch) + 1):
        x = (k + 0.5) * pitch
        start, end = (
            (top, bottom - rail - 0.4 * pitch) if k % 2 else (top + rail + 0.4 * pitch, bottom)
        )
        if end > start:
            layer.wires.append((np.array([(x, start), (x, end)]), line))
            layer.vias.append((x, start if k % 2 else end, line * rng.uniform(0.3, 0.4)))
    return layer


def _contacts(rng, width: float, height: float, pitch: float) -> Layer:
    """Rows of short bars, as the cells of a logic block have them, between supply rails."""
    layer = Layer(pitch)
    line = _wire_width(rng, pitch)
    row_height = int(rng.integers(4, 8)) * pitch
    for rail in np.arange(0, height + row_height, row_height):
        layer.wires.append((np.array([(-pitch, rail), (width + pitch, rail)]), line * 1.4))
        for x in np.arange(pitch / 2, width, pitch):
            y = rail + 1.15 * pitch
            while y < rail + row_height - 1.15 * pitch:
                length = min(rng.uniform(0, 3) * pitch, rail + row_height - 1.15 * pitch - y)
                if rng.random() < 0.75:
                    layer.wires.append((np.array([(x, y), (x, y + length + 0.1)]), line))
                    layer.vias.append((x, y, line * rng.uniform(0.3, 0.4)))
                y += length + 1.15 * pitch
    return layer


def _plates(rng, width: float, height: float, pitch: float) -> Layer:
    """Wide supply lines, some slotted, with thin lines between them."""
    layer = Layer(pitch)
    line = _wire_width(rng, pitch)
    y = rng.uniform(-2, 0) * pitch
    while y < height + pitch:
        thickness = rng.uniform(1.5, 4.5) * pitch
        layer.polygons.append(_box(-pitch, y, width + pitch, y + thickness))
        if rng.random() < 0.5:
            for x in np.arange(rng.uniform(0, 2) * pitch, width, 3.2 * pitch):
                middle = y + thickness / 2
                layer.holes.append(
                    _box(x, middle - 0.2 * pitch, x + 1.8 * pitch, middle + 0.2 * pitch)
                )
        elif rng.random() < 0.6:
            for x in np.arange(0.5 * pitch, width, rng.uniform(1, 2) * pitch):
                for v in np.arange(y + 0.6 * pitch, y + thickness - 0.4 * pitch, pitch):
                    layer.vias.append((x, v, line * rng.uniform(0.3, 0.36)))
        y += thickness + 0.6 * pitch
        for _ in range(int(rng.integers(0, 4))):
            y += 0.5 * pitch
            layer.wires.append((np.array([(-pitch, y), (width + pitch, y)]), line))
            y += 0.5 * pitch
        y += 0.2 * pitch
    return layer


def _pads(rng, width: float, height: float, pitch: float) -> Layer:
    """Large plates with cut corners, a narrow gap apart, some tied to a neighbour."""
    layer = Layer(pitch)
    gap = rng.uniform(0.5, 1.5) * pitch
    y = gap
    while y < height:
        tall = rng.uniform(2.5, 7) * pitch
        x = rng.uniform(-2, 1) * pitch
        while x < width:
            wide = rng.uniform(2.5, 7) * pitch
            cut = rng.choice([0.0, 0.2]) * min(wide, tall)
            right, bottom = x + wide, y + tall
            layer.polygons.append(
                np.array([
                    (x + cut, y), (right - cut, y), (right, y + cut), (right, bottom - cut),
                    (right - cut, bottom), (x + cut, bottom), (x, bottom - cut), (x, y + cut),
                ])
            )  # fmt: skip
            if rng.random() < 0.4:
                middle = y + rng.uniform(0.3, 0.7) * tall
                tie = np.array([(right - cut, middle), (right + gap + cut, middle)])
                layer.wires.append((tie, _wire_width(rng, pitch)))
            x = right + gap
        y += tall + gap
    return layer


STYLES = {_routing: 0.38, _bus: 0.18, _comb: 0.1, _contacts: 0.12, _plates: 0.12, _pads: 0.1}
"""Ways to fill a block, and how often each is taken."""


def _split(rng, box, smallest: float, depth: int) -> list:
    """Cuts a box (x0, y0, x1, y1) into blocks no narrower than `smallest`."""
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
    """The wires of a block, kept off its borders by half a gap, so that blocks do not touch."""
    x0, y0, x1, y1 = box[0] + gap / 2, box[1] + gap / 2, box[2] - gap / 2, box[3] - gap / 2
    out = Layer(layer.pitch)
    for points, width in layer.wires:
        lower, upper = (x0 + width / 2, y0 + width / 2), (x1 - width / 2, y1 - width / 2)
        if lower[0] >= upper[0] or lower[1] >= upper[1]:
            continue
        out.wires.extend((run, width) for run in _runs_inside(points, lower, upper))
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


def _runs_inside(points: np.ndarray, lower, upper) -> list:
    """The parts of a polyline inside a box."""
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


def draw_pitch(rng) -> float:
    """A line pitch in pixels: median 51, from 27 to 128, as measured on MIIC."""
    return float(np.clip(51 * np.exp(0.38 * rng.standard_normal()), 27, 128))


def _apart(vias: list) -> list:
    """Vias without those that come too near an earlier one."""
    kept: dict[tuple[int, int], list] = collections.defaultdict(list)
    cell = 2.8 * max((radius for *_, radius in vias), default=1)
    out = []
    for x, y, radius in vias:
        column, row = int(x // cell), int(y // cell)
        near = (
            other
            for i, j in itertools.product((column - 1, column, column + 1), (row - 1, row, row + 1))
            for other in kept.get((i, j), ())
        )
        if all(np.hypot(u - x, v - y) > 1.4 * (r + radius) for u, v, r in near):
            kept[column, row].append((x, y, radius))
            out.append((x, y, radius))
    return out


def random_layer(rng, size: int, pitch: float, *, blocks: int = 2, angle: float = 0.0) -> Layer:
    """A layer that covers a square of `size` pixels.

    Args:
      rng: NumPy generator.
      size: of the square.
      pitch: of the narrowest lines.
      blocks: how often the square may be cut in two.
      angle: in radians, about the centre.
    """
    margin = 0.1 * size
    layer = Layer(pitch)
    for box in _split(rng, (-margin, -margin, size + margin, size + margin), 4 * pitch, blocks):
        style = list(STYLES)[rng.choice(len(STYLES), p=list(STYLES.values()))]
        width, height = box[2] - box[0], box[3] - box[1]
        swap = rng.random() < 0.5
        if swap:
            width, height = height, width
        matrix = np.array([[0.0, 1.0], [1.0, 0.0]]) if swap else np.eye(2)
        block = style(rng, width, height, pitch * rng.choice([1.0, 1.5, 2.5], p=(0.7, 0.2, 0.1)))
        layer.extend(_clip(block.transformed(matrix, np.array(box[:2])), box, 0.5 * pitch))
    layer.vias = _apart(layer.vias)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    centre = np.array([size / 2, size / 2])
    return layer.transformed(rotation, centre - rotation @ centre)


def _fill(canvas: np.ndarray, polygons, value: int):
    scale = SUPERSAMPLING * (1 << FRACTION_BITS)
    # The centre of micrograph pixel 0 lies between canvas pixels when supersampled.
    shift = (SUPERSAMPLING - 1) / 2 * (1 << FRACTION_BITS)
    for polygon in polygons:
        points = np.rint(np.asarray(polygon) * scale + shift).astype(np.int32)
        cv2.fillPoly(canvas, [points], value, shift=FRACTION_BITS)


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    angles = np.arange(32) * (np.pi / 16)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


def _outlines(points: np.ndarray, width: float) -> list:
    """A wire as polygons: a quadrilateral a segment, square ends, a disc at each corner."""
    out = []
    half = width / 2
    for k in range(len(points) - 1):
        start, end = points[k], points[k + 1]
        length = np.hypot(*(end - start))
        if length == 0:
            continue
        along = (end - start) / length
        across = np.array([-along[1], along[0]]) * half
        if k == 0:
            start = start - along * half
        if k == len(points) - 2:
            end = end + along * half
        out.append(np.array([start - across, end - across, end + across, start + across]))
    out.extend(_disc(x, y, half) for x, y in points[1:-1])
    return out


def rasterize_metal(layer: Layer, size: int, *, bulge: float = 1.75) -> np.ndarray:
    """Metal as `[SUPERSAMPLING * size] * 2` uint8 of 0 and 1.

    Lines bulge to `bulge` times the via's radius where one lands.
    """
    canvas = np.zeros((SUPERSAMPLING * size,) * 2, np.uint8)
    for points, width in layer.wires:
        _fill(canvas, _outlines(points, width), 1)
    _fill(canvas, layer.polygons, 1)
    _fill(canvas, layer.holes, 0)
    _fill(canvas, (_disc(x, y, bulge * radius) for x, y, radius in layer.vias), 1)
    return canvas


def rasterize_vias(layer: Layer, size: int) -> np.ndarray:
    """Vias as `[SUPERSAMPLING * size] * 2` uint8 of 0 and 1."""
    canvas = np.zeros((SUPERSAMPLING * size,) * 2, np.uint8)
    _fill(canvas, (_disc(*via) for via in layer.vias), 1)
    return canvas


def signed_distance(canvas: np.ndarray) -> np.ndarray:
    """Distance to the drawn edge in micrograph pixels, positive inside, `[size, size]` float32."""
    inside = cv2.distanceTransform(canvas, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - canvas, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # The edge lies half a pixel off the last pixel of either side.
    distance = np.where(canvas > 0, inside - 0.5, 0.5 - outside) / SUPERSAMPLING
    # An empty or full canvas has no edge; far is far enough.
    distance = np.clip(distance, -64, 64).astype(np.float32)
    size = canvas.shape[0] // SUPERSAMPLING
    return cv2.resize(distance, (size, size), interpolation=cv2.INTER_AREA)
