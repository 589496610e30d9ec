"""Readers of what `exchange` writes, after those of Degate and Deroute.

They demand what the sources of both demand: Degate's LogicModelImporter.cc and ProjectImporter.cc,
and the fields of Deroute's Entity.cs, which .NET's XmlSerializer reads.
"""

import pathlib
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import numpy as np
import shapely

ENTITY_TYPES = {"ViasConnect", "WireInterconnect"}
"""Of Deroute's EntityType those that are written."""


def read_degate(folder: pathlib.Path) -> tuple[dict, dict[str, set]]:
    """Return the layers by position, and the wires and vias of each net by its objects' name."""
    project = ElementTree.parse(folder / "project.xml").getroot()
    for name in ("width", "height", "lambda", "pin-diameter", "wire-diameter"):
        int(project.attrib[name])
    float(project.attrib["pixel-per-um"])
    layers = {int(layer.attrib["position"]): layer.attrib for layer in project.iter("layer")}
    assert all(layer["type"] == "metal" for layer in layers.values())
    root = ElementTree.parse(folder / "lmodel.xml").getroot()
    objects = {}
    for path, names in (("wires/wire", ("from-x", "from-y", "to-x", "to-y")),
                        ("vias/via", ("x", "y"))):  # fmt: skip
        for element in root.iterfind(path):
            values = element.attrib
            assert int(values["layer"]) in layers and int(values["diameter"]) > 0
            assert int(values["id"]) > 0 and values["id"] not in objects
            places = tuple(int(values[name]) for name in names)
            if element.tag == "via":
                assert values["direction"] in ("up", "down")
                places += (values["direction"],)
            for name in ("fill-color", "frame-color"):
                assert values[name][0] == "#" and len(values[name]) == 9
            objects[values["id"]] = values["name"], (element.tag, int(values["layer"]), *places)
    nets = {}
    for net in root.iterfind("nets/net"):
        assert net.attrib["id"] not in objects
        members = [objects.pop(link.attrib["object-id"]) for link in net.iterfind("connection")]
        (name,) = {name for name, _ in members}
        assert name not in nets
        nets[name] = {place for _, place in members}
    assert not objects
    assert len(root.findall("modules/module")) == 1
    return layers, nets


class Entity(NamedTuple):
    """A wire or via of Deroute."""

    label: str
    kind: str
    start: np.ndarray
    end: np.ndarray

    @property
    def is_wire(self) -> bool:
        return self.kind == "WireInterconnect"


def read_deroute(path: pathlib.Path) -> list[Entity]:
    """Return the wires and vias that Deroute keeps: it leaves out wires shorter than a lambda."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "ArrayOfEntity"
    entities = []
    for element in root.iterfind("Entity"):
        values = {child.tag: child.text for child in element}
        assert values["Type"] in ENTITY_TYPES and int(values["WidthOverride"]) > 0
        int(values["Priority"])
        x0, y0, x1, y1 = (float(values[f"Lambda{name}"]) for name in ("X", "Y", "EndX", "EndY"))
        entity = Entity(values["Label"], values["Type"], np.array([x0, y0]), np.array([x1, y1]))
        if not entity.is_wire or np.linalg.norm(entity.end - entity.start) >= 1:
            entities.append(entity)
    return entities


def follow(entities: list[Entity], first: int) -> set[int]:
    """Return what Deroute selects from an entity on, after SelectTraverse of its Traverse.cs.

    A wire leads to the wires that have an end less than 0.7 lambda from one of its own, and to the
    vias whose square of 1.4 lambda it meets; a via leads to one wire that meets its square.
    """
    ends = np.array([(entity.start, entity.end) for entity in entities])
    is_wire = np.array([entity.is_wire for entity in entities])
    lines = shapely.linestrings(ends)
    squares = shapely.box(*(ends[:, 0] - 0.7).T, *(ends[:, 0] + 0.7).T)
    selected, waiting = {first}, [first]
    while waiting:
        k = waiting.pop()
        if is_wire[k]:
            distances = np.linalg.norm(ends[:, :, None] - ends[k][None, None], axis=-1)
            joined = is_wire & (distances < 0.7).any((1, 2))
            joined |= ~is_wire & shapely.intersects(squares, lines[k])
            found = [other for other in np.flatnonzero(joined) if other not in selected]
        else:
            met = np.flatnonzero(is_wire & shapely.intersects(lines, squares[k]))
            found = [other for other in met if other not in selected][:1]
        selected.update(found)
        waiting += found
    return selected
