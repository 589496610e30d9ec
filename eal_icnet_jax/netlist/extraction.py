"""Nets of a stack, extracted by KLayout."""

import dataclasses
import pathlib
from typing import NamedTuple

from eal_icnet_jax.netlist.stack import Stack
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.tables import read_table
from eal_icnet_jax.vector.layout_reader import Box, kdb

MAX_LABELS = 1_000_000
"""Largest number of lines of a file of names."""


MAX_COORDINATE = 1e6
"""Largest coordinate of a name in micrometres, a metre."""


class NetLabel(NamedTuple):
    """A name for the net at a point of a layer.

    place: where it stands, for error messages.
    x, y: in micrometres, y upwards.
    """

    place: str
    name: str
    layer: str
    x: float
    y: float


@dataclasses.dataclass(frozen=True)
class Net:
    """A net.

    Attributes:
      name: N1, N2 and so on, or the name that a label gives.
      shapes: number of shapes on each layer that has any, by its name.
      box: extent in micrometres, y upwards.
      length: half the perimeter of its metal in micrometres, about the length of its wires.
      area: of its metal in square micrometres.
      place: layer and point (x, y) in micrometres within its lowest metal, or within a via if it
        has no metal.
    """

    name: str
    shapes: dict[str, int]
    box: Box
    length: float
    area: float
    place: tuple[str, float, float]


@dataclasses.dataclass(frozen=True)
class Extraction:
    """The nets of a stack.

    Attributes:
      stack: its layers.
      database: KLayout's, in which nets have their names.
      nets: in the order of their place, layer by layer.
      notes: a sentence for each thing that a user should know.
    """

    stack: Stack
    database: kdb.LayoutToNetlist
    nets: tuple[Net, ...]
    notes: tuple[str, ...]


def read_net_labels(path: pathlib.Path) -> list[NetLabel]:
    """Read names of nets from a CSV file with the columns name, layer, x and y.

    Raises:
      UserError: it cannot be read.
    """
    rows = read_table(path, ("name", "layer", "x", "y"))
    if len(rows) > MAX_LABELS:
        raise UserError(f"{path} has over {MAX_LABELS:,} lines: split it")
    out = []
    for row in rows:
        x, y = (row.number(axis, "micrometres", MAX_COORDINATE) for axis in ("x", "y"))
        name = row.values["name"]
        if not name:
            raise UserError(f"{row.place}: the name is empty")
        if not name.isprintable():
            raise UserError(f"{row.place}: the name {name!r} holds a control character: remove it")
        out.append(NetLabel(row.place, name, row.values["layer"], x, y))
    return out


def extract(stack: Stack, labels: list[NetLabel] | None = None) -> Extraction:
    """Extract the nets of a stack.

    Shapes of one layer that touch belong to one net, and so do shapes of neighbouring layers that
    overlap or touch.

    Args:
      stack: its layers.
      labels: names for nets.

    Raises:
      UserError: a label is at a place without a net.
    """
    database = kdb.LayoutToNetlist(kdb.RecursiveShapeIterator(stack.layout, stack.cell, []))
    layers = {name: database.make_layer(stack.index_of(name), name) for name in stack.names}
    below = None
    for region in layers.values():
        database.connect(region)
        if below is not None:
            database.connect(below, region)
        below = region
    database.extract_netlist()
    circuit = next(iter(database.netlist().each_circuit()), None)
    found = []
    for net in circuit.each_net() if circuit else ():
        shapes = {
            name: region
            for name, layer in layers.items()
            if not (region := database.shapes_of_net(net, layer, True).merged()).is_empty()
        }
        found.append((net, _described(shapes, stack)))
    order = {name: k for k, name in enumerate(stack.names)}
    found.sort(key=lambda item: (order[item[1].place[0]], item[1].box.left, -item[1].box.top,
                                 item[1].place[1:]))  # fmt: skip
    names, notes = _names(database, layers, [net for net, _ in found], labels or [])
    nets = []
    for (net, described), name in zip(found, names, strict=True):
        net.name = name
        nets.append(dataclasses.replace(described, name=name))
    return Extraction(stack, database, tuple(nets), (*_loose_vias(stack), *notes))


def _described(shapes: dict[str, kdb.Region], stack: Stack) -> Net:
    """Return a net without its name."""
    grid = stack.layout.dbu
    metal = [region for name, region in shapes.items() if name.startswith("metal")]
    box = kdb.Box()
    for region in shapes.values():
        box += region.bbox()
    layer = next((name for name in shapes if name.startswith("metal")), next(iter(shapes)))
    largest = max(shapes[layer].each(), key=lambda polygon: polygon.area())
    widest = max(largest.decompose_trapezoids(), key=lambda part: part.area())
    corners = list(widest.each_point())  # of a convex shape, whose middle lies inside
    x = sum(corner.x for corner in corners) / len(corners)
    y = sum(corner.y for corner in corners) / len(corners)
    return Net(
        name="",
        shapes={name: region.count() for name, region in shapes.items()},
        box=Box(*(grid * value for value in (box.left, box.bottom, box.right, box.top))),
        length=grid * sum(region.perimeter() for region in metal) / 2,
        area=grid**2 * sum(region.area() for region in metal),
        place=(layer, grid * x, grid * y),
    )


def _names(
    database: kdb.LayoutToNetlist, layers: dict[str, kdb.Region], nets: list, labels: list[NetLabel]
) -> tuple[list[str], list[str]]:
    """Return the name of each net, and sentences about labels that disagree.

    Raises:
      UserError: a label is at a place without a net.
    """
    by_id: dict[int, list[str]] = {net.cluster_id: [] for net in nets}
    owners: dict[str, set[int]] = {}
    for label in labels:
        if label.layer not in layers:
            raise UserError(
                f"{label.place}: there is no layer {label.layer!r}; the layers are "
                f"{', '.join(layers)}"
            )
        net = database.probe_net(layers[label.layer], kdb.DPoint(label.x, label.y))
        if net is None:
            raise UserError(
                f"{label.place}: there is nothing on {label.layer} at x {label.x:g}, "
                f"y {label.y:g} um"
            )
        if label.name not in by_id[net.cluster_id]:
            by_id[net.cluster_id].append(label.name)
        owners.setdefault(label.name, set()).add(net.cluster_id)
    notes = [
        f"{' and '.join(names)} are one net: there is a short, or a name is wrong"
        for names in by_id.values()
        if len(names) > 1
    ]
    notes += [
        f"{name} is {len(ids)} nets: there is an open, or a name is wrong"
        for name, ids in owners.items()
        if len(ids) > 1
    ]
    taken = set(owners)
    out: list[str] = []
    parts = dict.fromkeys(owners, 0)
    for number, net in enumerate(nets, 1):
        names = by_id[net.cluster_id]
        if not names:
            name = f"N{number}"
        elif len(owners[names[0]]) > 1:  # parts of an open net
            parts[names[0]] += 1
            name = f"{names[0]}${parts[names[0]]}"
        else:
            name = "+".join(names)
        while name in taken and names != [name]:  # a label elsewhere, or a name made before
            name += "_"
        taken.add(name)
        out.append(name)
    return out, notes


def _loose_vias(stack: Stack) -> list[str]:
    """Return a sentence for each side of each layer of vias on which some touch no metal."""
    out = []
    for k, name in enumerate(stack.names):
        if not name.startswith("via"):
            continue
        vias = stack.region(name)
        for other in (stack.names[k - 1], stack.names[k + 1]):
            count = vias.not_interacting(stack.region(other)).count()
            if count:
                out.append(f"{count:,} of {vias.count():,} shapes of {name} do not touch {other}")
    return out
