"""Nets for other programs: a project of Degate, the XML of Deroute, and SPICE.

Written as the sources of Degate (src/Core/Project/ProjectImporter.cc and
src/Core/LogicModel/LogicModelImporter.cc) and of Deroute (EntityBox/Serialize.cs and Entity.cs)
read them; benchmarks/hand_off.py runs both on a drawn stack. Both place objects by pixels of the
photograph, y downwards.
"""

import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from eal_icnet_jax.netlist import flat_wires
from eal_icnet_jax.netlist.extraction import Extraction
from eal_icnet_jax.netlist.wires import Via, Wire, wires_and_vias
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import (
    MADE_BY,
    atomic_file,
    cannot_be_written,
    check_parent,
    check_replaceable,
    check_report_replaceable,
)
from eal_icnet_jax.vector.layout_reader import kdb

PROJECT, MODEL = "project.xml", "lmodel.xml"
"""Files of a project of Degate."""

WIRE, VIA = "WireInterconnect", "ViasConnect"
"""Types of Deroute's entities."""

DEFAULT_COLOUR = "#00000000"
"""Of an object that has Degate's usual colour."""


class Frame(NamedTuple):
    """Pixels of the photograph under a stack.

    pixel_size: side in micrometres.
    left, top: of the upper left corner in micrometres, y upwards.
    height, width: in pixels.
    """

    pixel_size: float
    left: float
    top: float
    height: int
    width: int

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel (x, y) of a place in micrometres."""
        return (x - self.left) / self.pixel_size, (self.top - y) / self.pixel_size


def frame_of(extraction: Extraction) -> Frame:
    """Return the pixels under a stack; those of layouts begin at its left and top.

    Raises:
      UserError: the size of a pixel is unknown.
    """
    stack = extraction.stack
    size = stack.pixel_size
    if size is None:
        raise UserError(
            "other programs place wires by pixels, and layouts have none: name --pixel-size"
        )
    if stack.frame is not None:
        height, width = stack.frame
        return Frame(size, 0.0, height * size, height, width)
    box = stack.cell.dbbox()
    height, width = (max(1, -int(-length // size)) for length in (box.height(), box.width()))
    return Frame(size, box.left, box.top, height, width)


class Drawing(NamedTuple):
    """Nets as other programs draw them: wires and vias over a photograph."""

    frame: Frame
    extraction: Extraction
    wires: list[Wire]
    vias: list[Via]


def drawing_of(extraction: Extraction) -> Drawing:
    """Return the wires and vias of nets.

    Raises:
      UserError: the size of a pixel is unknown.
    """
    frame = frame_of(extraction)
    return Drawing(frame, extraction, *wires_and_vias(extraction, frame.pixel_size))


def check_outputs(
    degate: pathlib.Path | None, files: list[pathlib.Path | None], force: bool = False
):
    """Raise a `UserError` if a result cannot be written, or would replace another program's file.

    Args:
      degate: folder of a project, if one is to be written.
      files: other files that are to be written, or None.
      force: whether any file may be replaced.
    """
    for path in [degate, *files]:
        if path is not None:
            check_parent(path)
    if degate is not None:
        if degate.exists() and not degate.is_dir():
            raise UserError(f"{degate} is a file: name a folder for the project of Degate")
        check_report_replaceable(degate, [MODEL, PROJECT], force)
    for path in files:
        if path is not None:
            check_replaceable(path, force)


def write_degate(folder: pathlib.Path, drawing: Drawing):
    """Write a project of Degate: its layers of metal, wires, vias and nets.

    A via is two objects, one on each of the metals that it joins.

    Args:
      folder: new or of an earlier run.
      drawing: the nets, of `drawing_of`.

    Raises:
      UserError: the files cannot be written.
    """
    frame, extraction, wires, vias = drawing
    metals = [name for name in extraction.stack.names if name.startswith("metal")]
    position = {name: str(k) for k, name in enumerate(metals)}
    model = ElementTree.Element("logic-model", {"software": MADE_BY.decode()})
    parts = {name: ElementTree.SubElement(model, name)
             for name in ("gates", "vias", "emarkers", "wires", "annotations", "nets")}  # fmt: skip
    members: dict[str, list[int]] = defaultdict(list)
    number = 0

    def add(kind: str, net: str, layer: str, width: float, **places: float):
        nonlocal number
        number += 1
        members[net].append(number)
        attributes = {name.replace("_", "-"): str(round(value)) for name, value in places.items()}
        return ElementTree.SubElement(parts[f"{kind}s"], kind, {
            "id": str(number), "name": net, "description": "", "layer": position[layer],
            "diameter": str(max(1, round(width / frame.pixel_size))), **attributes,
            "fill-color": DEFAULT_COLOUR, "frame-color": DEFAULT_COLOUR, "remote-id": "0",
        })  # fmt: skip

    for wire in wires:
        (x0, y0), (x1, y1) = frame.place(*wire.start), frame.place(*wire.end)
        add("wire", wire.net, wire.layer, wire.width, from_x=x0, from_y=y0, to_x=x1, to_y=y1)
    for via in vias:
        x, y = frame.place(via.x, via.y)
        below = int(via.layer[3:])
        for layer, direction in ((f"metal{below}", "up"), (f"metal{below + 1}", "down")):
            add("via", via.net, layer, via.width, x=x, y=y).set("direction", direction)
    for net in extraction.nets:
        number += 1
        element = ElementTree.SubElement(parts["nets"], "net", {"id": str(number)})
        for member in members[net.name]:
            ElementTree.SubElement(element, "connection", {"object-id": str(member)})
    modules = ElementTree.SubElement(model, "modules")
    main = ElementTree.SubElement(
        modules, "module", {"id": str(number + 1), "name": "main_module", "entity": ""}
    )
    for name in ("module-ports", "cells", "modules"):
        ElementTree.SubElement(main, name)
    project = ElementTree.Element("project", {
        "degate-version": "2.0.0", "name": folder.name, "description": MADE_BY.decode(),
        "type": "normal", "width": str(frame.width), "height": str(frame.height), "lambda": "1",
        "pin-diameter": "5", "wire-diameter": "5", "port-diameter": "5",
        "pixel-per-um": f"{1 / frame.pixel_size:.10g}", "template-dimension": "1",
        "font-size": "10", "server-url": "", "last-pulled-transaction-id": "0",
    })  # fmt: skip
    layers = ElementTree.SubElement(project, "layers")
    for name in metals:
        ElementTree.SubElement(layers, "layer", {
            "position": position[name], "id": str(int(position[name]) + 1), "type": "metal",
            "description": name, "enabled": "true",
        })  # fmt: skip
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    _write(folder / MODEL, model)
    _write(folder / PROJECT, project)


def write_deroute(path: pathlib.Path, drawing: Drawing) -> int:
    """Write wires and vias as entities of Deroute, each labelled with its net.

    A lambda is a pixel. Deroute has no layers, so what would join different nets there is moved
    within its metal: see `flat_wires`.

    Args:
      path: of the XML file.
      drawing: the nets, of `drawing_of`.

    Returns:
      The number of places at which Deroute will still join nets.

    Raises:
      UserError: the file cannot be written.
    """
    frame, extraction, wires, vias = drawing
    names = [net.name for net in extraction.nets]
    number = {name: k for k, name in enumerate(names)}

    def pixels(places: list) -> np.ndarray:
        return np.array([frame.place(x, y) for x, y in places]).reshape(-1, 2)

    def nets_and_widths(items: list) -> tuple[np.ndarray, np.ndarray]:
        nets = np.array([number[item.net] for item in items], int)
        return nets, np.array([item.width for item in items]) / frame.pixel_size

    ends = pixels([end for wire in wires for end in (wire.start, wire.end)]).reshape(-1, 2, 2)
    flat, doubtful = flat_wires.keep_apart(flat_wires.FlatWires(
        ends, *nets_and_widths(wires), pixels([(via.x, via.y) for via in vias]),
        *nets_and_widths(vias),
    ))  # fmt: skip
    root = ElementTree.Element("ArrayOfEntity", {
        "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
        "xmlns:xsd": "http://www.w3.org/2001/XMLSchema",
    })  # fmt: skip
    root.append(ElementTree.Comment(MADE_BY.decode()))

    def add(kind: str, net: int, start: np.ndarray, end: np.ndarray, width: float):
        shown = max(1, round(width))
        values = {
            "Label": names[net],
            "LambdaWidth": shown if kind == WIRE else 1,
            "LambdaHeight": 1,
            "LambdaX": f"{start[0]:.2f}",
            "LambdaY": f"{start[1]:.2f}",
            "LambdaEndX": f"{end[0]:.2f}",
            "LambdaEndY": f"{end[1]:.2f}",
            "Type": kind,
            "ColorOverride": "Black",
            "LabelAlignment": "GlobalSettings",
            "Priority": len(root) - 1,
            "WidthOverride": shown,
        }
        entity = ElementTree.SubElement(root, "Entity")
        for name, value in values.items():
            ElementTree.SubElement(entity, name).text = str(value)
        ElementTree.SubElement(entity, "Children")

    for net, (start, end), width in zip(flat.wire_nets, flat.wires, flat.wire_widths, strict=True):
        add(WIRE, net, start, end, width)
    for net, place, width in zip(flat.via_nets, flat.vias, flat.via_widths, strict=True):
        add(VIA, net, place, np.zeros(2), width / 2)  # a via's width is its radius
    _write(path, root)
    return doubtful


def spice_names(names: list[str]) -> list[str]:
    """Return names for SPICE, which knows no case and no other signs than these: A-Z 0-9 _ + $ .

    Other signs become _, and what is then equal to an earlier name gets one more.
    """
    taken, out = set(), []
    for name in names:
        name = re.sub(r"[^A-Za-z0-9_+$.]", "_", name)
        while name.upper() in taken:
            name += "_"
        taken.add(name.upper())
        out.append(name)
    return out


def write_spice(path: pathlib.Path, extraction: Extraction) -> int:
    """Write a circuit whose pins are the nets. It has no devices.

    Returns:
      The number of nets whose name is another one in SPICE, see `spice_names`.

    Raises:
      UserError: the file cannot be written.
    """
    netlist = kdb.Netlist()
    circuit = kdb.Circuit()
    circuit.name = "CHIP"
    netlist.add(circuit)
    names = [net.name for net in extraction.nets]
    for name in (written := spice_names(names)):
        circuit.connect_pin(circuit.create_pin(name), circuit.create_net(name))
    writer = kdb.NetlistSpiceWriter()
    writer.use_net_names = True
    with atomic_file(path) as partial:
        try:
            netlist.write(str(partial), writer, MADE_BY.decode())
        except RuntimeError as error:  # KLayout's, of a full disk for one
            raise cannot_be_written(path, OSError(str(error))) from error
    return sum(name != other for name, other in zip(names, written, strict=True))


def _write(path: pathlib.Path, root: ElementTree.Element):
    """Write an XML file completely or not at all."""
    tree = ElementTree.ElementTree(root)
    ElementTree.indent(tree)
    with atomic_file(path) as partial:
        tree.write(partial, encoding="UTF-8", xml_declaration=True)
