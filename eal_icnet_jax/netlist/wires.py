"""Metal as wires with a width, as other programs draw it: lines that lie in the metal.

A polygon, whose outline is smoothed, is cut into convex parts. Each gives lines from its middle to
the sides that it shares with others, to the vias on it, and to its ends if it is long. They lie in
the smoothed outline, since the parts are convex, and they meet where the metal does.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from eal_icnet_jax.netlist.extraction import Extraction
from eal_icnet_jax.vector.layout_reader import kdb

LONG = 1.5
"""Ratio of the sides from which on a part has lines to its ends."""

SMOOTH = 1.0
"""Largest distance in pixels by which an outline is smoothed."""

Point = tuple[float, float]


class Wire(NamedTuple):
    """A line of metal from (x0, y0) to (x1, y1), with a width, in micrometres, y upwards."""

    net: str
    layer: str
    start: Point
    end: Point
    width: float


class Via(NamedTuple):
    """A via with its middle (x, y) and width in micrometres; `layer` is such as via1."""

    net: str
    layer: str
    x: float
    y: float
    width: float


def wires_and_vias(extraction: Extraction, pixel_size: float) -> tuple[list[Wire], list[Via]]:
    """Return the metal and the vias of all nets, net by net.

    Args:
      extraction: the nets.
      pixel_size: side of a pixel in micrometres, by which outlines are smoothed.
    """
    stack, database = extraction.stack, extraction.database
    grid = stack.layout.dbu
    smooth = round(SMOOTH * pixel_size / grid)
    layers = {name: database.layer_by_name(name) for name in stack.names}
    circuit = next(iter(database.netlist().each_circuit()))
    by_name = {net.name: net for net in circuit.each_net()}
    wires: list[Wire] = []
    vias: list[Via] = []
    for net in extraction.nets:
        shapes = {
            name: database.shapes_of_net(by_name[net.name], layers[name], True).merged()
            for name in net.shapes
        }
        middles: dict[str, list[Point]] = {}
        for name in net.shapes:
            if not name.startswith("via"):
                continue
            number = int(name[3:])
            for polygon in shapes[name].each():
                box = polygon.bbox()
                middle, width = box.center(), min(box.width(), box.height())
                vias.append(Via(net.name, name, grid * middle.x, grid * middle.y, grid * width))
                for metal in (f"metal{number}", f"metal{number + 1}"):
                    if metal not in shapes:
                        continue
                    met = _place_on(shapes[metal], polygon)
                    if met is None:
                        continue
                    middles.setdefault(metal, []).append(met)
                    if met != (middle.x, middle.y):  # the middle of the via lies beside the metal
                        start, end = ((grid * x, grid * y) for x, y in
                                      (met, (middle.x, middle.y)))  # fmt: skip
                        wires.append(Wire(net.name, metal, start, end, grid * width))
        for name in net.shapes:
            if name.startswith("metal"):
                for polygon in shapes[name].each():
                    mine = middles.get(name, [])
                    wires += _wires(polygon.smooth(smooth, False), net.name, name, grid, mine)
    return wires, vias


def _place_on(metal: kdb.Region, via: kdb.Polygon) -> Point | None:
    """Return the middle of a via, or else of the largest part of it that lies on metal."""
    shared = (metal & kdb.Region(via)).merged()
    if shared.is_empty():
        return None
    middle = via.bbox().center()
    if any(polygon.inside(middle) for polygon in shared.each()):
        return middle.x, middle.y
    parts = (part for polygon in shared.each() for part in polygon.decompose_trapezoids())
    x, y = _middle(max(parts, key=lambda part: part.area()))
    return round(x), round(y)


def _wires(
    polygon: kdb.Polygon, net: str, layer: str, grid: float, vias: list[Point]
) -> Iterator[Wire]:
    """Yield the lines of a polygon."""
    parts = [part for part in polygon.decompose_convex() if part.area()]
    boxes = [part.bbox() for part in parts]
    edges = np.array([(box.left, box.bottom, box.right, box.top) for box in boxes])
    ends: list[list[Point]] = [[] for _ in parts]
    for x, y in vias:
        near = (edges[:, :2] <= (x, y)).all(1) & (edges[:, 2:] >= (x, y)).all(1)
        for k in np.flatnonzero(near):
            if parts[k].inside(kdb.Point(x, y)):
                ends[k].append((x, y))
    for k in range(len(parts)):
        touches = (edges[:k, :2] <= edges[k, 2:]).all(1) & (edges[:k, 2:] >= edges[k, :2]).all(1)
        for other in np.flatnonzero(touches):
            shared = _shared_side(parts[k], parts[other])
            if shared is not None:
                ends[k].append(shared)
                ends[other].append(shared)
    for part, box, mine in zip(parts, boxes, ends, strict=True):
        x, y = _middle(part)
        width = part.area() / max(box.width(), box.height())
        if box.width() > LONG * box.height():
            mine += [(box.left + width / 2, y), (box.right - width / 2, y)]
        elif box.height() > LONG * box.width():
            mine += [(x, box.bottom + width / 2), (x, box.top - width / 2)]
        inside = [end for end in mine if part.inside(kdb.Point(round(end[0]), round(end[1])))]
        for end in dict.fromkeys(inside or [(x, y)]):  # a dot of metal is a line without length
            yield Wire(net, layer, (grid * x, grid * y), (grid * end[0], grid * end[1]),
                       grid * width)  # fmt: skip


def _middle(part: kdb.Polygon) -> Point:
    """Return the mean of the corners of a convex polygon, which lies inside."""
    corners = list(part.each_point())
    return sum(p.x for p in corners) / len(corners), sum(p.y for p in corners) / len(corners)


def _shared_side(part: kdb.Polygon, other: kdb.Polygon) -> Point | None:
    """Return the middle of what the sides of two parts share, or None."""
    shared = [edge for edge in (kdb.Edges(part) & kdb.Edges(other)).each() if edge.length()]
    if not shared:
        return None
    longest = max(shared, key=lambda edge: edge.length())
    return (longest.x1 + longest.x2) / 2, (longest.y1 + longest.y2) / 2
