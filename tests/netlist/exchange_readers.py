"""Readers of what `exchange` writes, after those of Degate and Deroute.

They demand what the sources of both demand: Degate's LogicModelImporter.cc and ProjectImporter.cc,
and the fields of Deroute's Entity.cs, which .NET's XmlSerializer reads.
"""

import pathlib
import xml.etree.ElementTree as ElementTree

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


def read_deroute(path: pathlib.Path) -> dict[str, set]:
    """Return the wires and vias of each label."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "ArrayOfEntity"
    nets: dict[str, set] = {}
    for entity in root.iterfind("Entity"):
        values = {child.tag: child.text for child in entity}
        assert values["Type"] in ENTITY_TYPES and int(values["WidthOverride"]) > 0
        int(values["Priority"])
        names = ("LambdaX", "LambdaY", "LambdaEndX", "LambdaEndY")
        places = tuple(float(values[name]) for name in names)
        nets.setdefault(values["Label"], set()).add((values["Type"], *places))
    return nets
