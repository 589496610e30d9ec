"""Nets for other programs: a project of Degate, the XML of Deroute, and SPICE.

Written as the sources of Degate (src/Core/Project/ProjectImporter.cc and
src/Core/LogicModel/LogicModelImporter.cc) and of Deroute (EntityBox/Serialize.cs and Entity.cs)
read them. Both place objects by pixels of the photograph, y downwards.
"""

import pathlib
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from typing import NamedTuple

from eal_icnet_jax.netlist.extraction import Extraction
from eal_icnet_jax.netlist.wires import Wire, wires_and_vias
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


def write_degate(folder: pathlib.Path, extraction: Extraction):
    """Write a project of Degate: its layers of metal, wires, vias and nets.

    A via is two objects, one on each of the metals that it joins.

    Args:
      folder: new or of an earlier run.
      extraction: the nets.

    Raises:
      UserError: the size of a pixel is unknown, or the files cannot be written.
    """
    frame = frame_of(extraction)
    wires, vias = wires_and_vias(extraction, frame.pixel_size)
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


def write_deroute(path: pathlib.Path, extraction: Extraction):
    """Write wires and vias as entities of Deroute, each labelled with its net.

    A lambda is a pixel. Deroute has no layers: it joins wires that meet, whatever their layer.

    Args:
      path: of the XML file.
      extraction: the nets.

    Raises:
      UserError: the size of a pixel is unknown, or the file cannot be written.
    """
    frame = frame_of(extraction)
    wires, vias = wires_and_vias(extraction, frame.pixel_size)
    root = ElementTree.Element("ArrayOfEntity", {
        "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
        "xmlns:xsd": "http://www.w3.org/2001/XMLSchema",
    })  # fmt: skip
    root.append(ElementTree.Comment(MADE_BY.decode()))
    for number, item in enumerate((*wires, *vias)):
        is_wire = isinstance(item, Wire)
        start, end = (item.start, item.end) if is_wire else ((item.x, item.y),) * 2
        (x0, y0), (x1, y1) = frame.place(*start), frame.place(*end)
        width = max(1, round(item.width / frame.pixel_size))
        values = {
            "Label": item.net,
            "LambdaWidth": width if is_wire else 1,
            "LambdaHeight": 1,
            "LambdaX": f"{x0:.2f}",
            "LambdaY": f"{y0:.2f}",
            "LambdaEndX": f"{x1 if is_wire else 0:.2f}",
            "LambdaEndY": f"{y1 if is_wire else 0:.2f}",
            "Type": "WireInterconnect" if is_wire else "ViasConnect",
            "ColorOverride": "Black",
            "LabelAlignment": "GlobalSettings",
            "Priority": number,
            "WidthOverride": width,
        }
        entity = ElementTree.SubElement(root, "Entity")
        for name, value in values.items():
            ElementTree.SubElement(entity, name).text = str(value)
        ElementTree.SubElement(entity, "Children")
    _write(path, root)


def write_spice(path: pathlib.Path, extraction: Extraction):
    """Write a circuit whose pins are the nets. It has no devices.

    Raises:
      UserError: the file cannot be written.
    """
    netlist = kdb.Netlist()
    circuit = kdb.Circuit()
    circuit.name = "CHIP"
    netlist.add(circuit)
    for net in extraction.nets:
        circuit.connect_pin(circuit.create_pin(net.name), circuit.create_net(net.name))
    writer = kdb.NetlistSpiceWriter()
    writer.use_net_names = True
    with atomic_file(path) as partial:
        try:
            netlist.write(str(partial), writer, MADE_BY.decode())
        except RuntimeError as error:  # KLayout's, of a full disk for one
            raise cannot_be_written(path, OSError(str(error))) from error


def _write(path: pathlib.Path, root: ElementTree.Element):
    """Write an XML file completely or not at all."""
    tree = ElementTree.ElementTree(root)
    ElementTree.indent(tree)
    with atomic_file(path) as partial:
        tree.write(partial, encoding="UTF-8", xml_declaration=True)
