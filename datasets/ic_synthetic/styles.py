"""Styles of a block: functions that fill a rectangle with the shapes of a metal layer.

Each takes a NumPy generator, the width and height of the block and the pitch of its lines, all in
pixels, and the range of the lines' width relative to the pitch. It returns a `Layer` whose origin
is the block's corner.
"""

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic.geometry import DUTY, Layer, Range, box


def _wire_width(rng: np.random.Generator, layer: Layer) -> float:
    return layer.pitch * rng.uniform(*layer.duty)


def routing(
    rng: np.random.Generator, width: float, height: float, pitch: float, duty: Range = DUTY
) -> Layer:
    """Return wires on horizontal tracks that change tracks and end where they meet another wire."""
    layer = Layer(pitch, duty)
    columns, rows = int(width / pitch) + 2, int(height / pitch) + 2
    taken = np.zeros((rows, columns), bool)
    line = _wire_width(rng, layer)
    density = rng.uniform(0.75, 1.0)
    turn_probability = rng.uniform(0.05, 0.3)
    diagonal = rng.random() < 0.35
    starts = np.argwhere(~taken)
    # Tracks fill from the left, so that wires become long before they meet.
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
            if rng.random() < turn_probability:
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


def bus(
    rng: np.random.Generator, width: float, height: float, pitch: float, duty: Range = DUTY
) -> Layer:
    """Return parallel lines that bend together, by 45 or 90 degrees."""
    layer = Layer(pitch, duty)
    line = _wire_width(rng, layer)
    bend = rng.uniform(0.2, 0.8) * width
    slope = rng.choice([-1.0, 1.0])
    kind = rng.choice(["straight", "diagonal", "corner", "jog"])
    drop = rng.uniform(1, 4) * pitch
    far = 2 * (width + height)
    for k in range(-int(far / pitch), int(far / pitch)):
        y = (k + 0.5) * pitch
        # Each line bends a little later than the last, so that they keep their distance.
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


def comb(
    rng: np.random.Generator, width: float, height: float, pitch: float, duty: Range = DUTY
) -> Layer:
    """Return two rails whose fingers interlock."""
    layer = Layer(pitch, duty)
    line = _wire_width(rng, layer)
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


def contacts(
    rng: np.random.Generator, width: float, height: float, pitch: float, duty: Range = DUTY
) -> Layer:
    """Return rows of short bars between supply rails, like the cells of a logic block."""
    layer = Layer(pitch, duty)
    line = _wire_width(rng, layer)
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


def plates(
    rng: np.random.Generator, width: float, height: float, pitch: float, duty: Range = DUTY
) -> Layer:
    """Return wide supply lines, some with slots, and thin lines between them."""
    layer = Layer(pitch, duty)
    line = _wire_width(rng, layer)
    y = rng.uniform(-2, 0) * pitch
    while y < height + pitch:
        thickness = rng.uniform(1.5, 4.5) * pitch
        layer.polygons.append(box(-pitch, y, width + pitch, y + thickness))
        if rng.random() < 0.5:
            for x in np.arange(rng.uniform(0, 2) * pitch, width, 3.2 * pitch):
                middle = y + thickness / 2
                layer.holes.append(
                    box(x, middle - 0.2 * pitch, x + 1.8 * pitch, middle + 0.2 * pitch)
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


def pads(
    rng: np.random.Generator, width: float, height: float, pitch: float, duty: Range = DUTY
) -> Layer:
    """Return large plates with cut corners and narrow gaps, some tied to a neighbour."""
    layer = Layer(pitch, duty)
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
                layer.wires.append((tie, _wire_width(rng, layer)))
            x = right + gap
        y += tall + gap
    return layer


STYLES = {routing: 0.38, bus: 0.18, comb: 0.1, contacts: 0.12, plates: 0.12, pads: 0.1}
"""Ways to fill a block, and the probability of each."""
