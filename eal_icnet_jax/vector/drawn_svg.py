"""SVG that was drawn over a photograph, as Inkscape writes it, as a layout in pixels.

Follows SVG 1.1 (https://www.w3.org/TR/SVG11); svgelements computes the shapes, with their units,
styles and transforms.
"""

import copy
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
import shapely

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import svg_labels
from eal_icnet_jax.vector.layout_options import LAYERS
from eal_icnet_jax.vector.layout_reader import UNITS, kdb

try:
    import svgelements
except ImportError as missing:
    raise UserError(
        "reading a drawn SVG needs svgelements: pip install 'eal-icnet-jax[labels]'"
    ) from missing

LABEL = "{http://www.inkscape.org/namespaces/inkscape}label"
"""Attribute in which Inkscape keeps the name of a layer."""

REFUSED = {
    "use": "unlink its clones",
    "text": "convert it to paths",
    "symbol": "ungroup it",
    "switch": "keep one of its branches outside of it",
    "flowRoot": "convert it to paths",
    "flowRegion": "convert it to paths",
}
"""Elements whose shapes are not read, and what to do about them."""

REFUSED_IF_DRAWN = ("svg", "mask", "marker", "clipPath", "pattern")
"""Elements that are not read outside of definitions."""

REFUSED_PROPERTIES = {
    "clip-path": "release its clip",
    "mask": "release its mask",
    "stroke-dasharray": "draw its stroke without dashes",
    "transform-origin": "write its transform without it",
}
"""Attributes and properties of a style that are not read, and what to do about them."""

LARGEST_SQUEEZE = 1.02
"""Largest ratio of the scales of a stroke in two directions."""

STEPS_PER_PIXEL = 2
"""Number of straight lines that a curve is drawn with, by its extent."""

MAX_STEPS = 256
"""Largest number of straight lines for one curve."""

MAX_COORDINATE = 5e5
"""Largest coordinate of a shape in pixels."""

MAX_STROKE = 2e5
"""Largest width of a stroke in pixels."""

CAPS: dict[str, Any] = {"butt": "flat", "round": "round", "square": "square"}
JOINS: dict[str, Any] = {"miter": "mitre", "round": "round", "bevel": "bevel"}
"""Shapely's names for the ends and the corners of a stroke."""


class Drawing(NamedTuple):
    """What was drawn over a photograph.

    layout: with a micrometre for each pixel, y upwards, and the layers of `LAYERS`.
    left_out: number of shapes outside the layers for metal and vias.
    """

    layout: kdb.Layout
    left_out: int


def parse(data: bytes, name: str, shape: tuple[int, int]) -> Drawing:
    """Read a drawing.

    Layers or groups whose names begin with metal or via hold the shapes of that kind. If there are
    none, circles and ellipses are vias, and all else is metal. Fills and strokes count, whatever
    their colours; what is hidden does not.

    Args:
      data: content of the file.
      name: of the file, for error messages.
      shape: height and width of the photograph. It fills the one image in the drawing, or otherwise
        the page.

    Raises:
      UserError: it is no SVG, defines entities, has another aspect ratio than the photograph, or
        holds elements that are not read.
    """
    root = svg_labels.parse_xml(data, name)
    _check_elements(root, name)
    try:
        _check_transforms(svgelements.SVG.parse(io.BytesIO(data), reify=False), name)
        svg = svgelements.SVG.parse(io.BytesIO(data), reify=True, on_error="raise")
        to_pixels = _matrix_to_pixels(svg, root, name, shape)
        with np.errstate(over="ignore", invalid="ignore"):  # such coordinates are refused
            return _to_layout(list(_shapes(svg)), to_pixels, name, shape[0])
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, ArithmeticError) as error:
        raise UserError(f"{name} holds a shape that cannot be read ({error}): redraw it") from error
    except RecursionError as error:
        raise UserError(f"{name} has too many groups in groups: ungroup them") from error


def _style(element: Element) -> dict[str, str]:
    """Return the properties of an element's style."""
    parts = (part.partition(":") for part in element.get("style", "").split(";"))
    return {key.strip(): value.strip() for key, _, value in parts}


def _check_elements(root: Element, name: str):
    """Raise a `UserError` if a drawing holds what is not read."""
    defined = {part for group in root.iter(svg_labels.SVG + "defs") for part in group.iter()}
    for element in root.iter():
        tag = str(element.tag).removeprefix(svg_labels.SVG)
        if tag in REFUSED:
            raise UserError(f"{name} holds a {tag}: {REFUSED[tag]}")
        if element is root or element in defined:
            continue
        if tag in REFUSED_IF_DRAWN:
            raise UserError(f"{name} holds a {tag} between its shapes: take its shapes out of it")
        properties = {**element.attrib, **_style(element)}
        for key, remedy in REFUSED_PROPERTIES.items():
            if properties.get(key, "none") != "none":
                raise UserError(f"{name} holds a {tag} with {key}: {remedy}")


def _check_transforms(svg, name: str):
    """Raise a `UserError` if a transform changes a shape to one that cannot be computed."""
    for _, element in _shapes(svg):
        matrix = element.transform
        linear = np.array([[matrix.a, matrix.c], [matrix.b, matrix.d]])
        largest, smallest = np.linalg.svd(linear, compute_uv=False)
        is_squeezed = largest > LARGEST_SQUEEZE * smallest
        if is_squeezed and _is_painted(element, "stroke") and element.stroke_width:
            raise UserError(
                f"{name} holds a stroke that is scaled by {largest:.3g} in one direction and "
                f"{smallest:.3g} in the other: convert it to a path (Stroke to Path)"
            )
        is_skewed = abs(linear[:, 0] @ linear[:, 1]) > 0.01 * largest * smallest
        if is_skewed and isinstance(element, svgelements.Circle | svgelements.Ellipse):
            raise UserError(f"{name} holds a skewed ellipse: convert it to a path")


class _Shape(NamedTuple):
    """A shape, and the kind of its layer or an empty text."""

    kind: str
    element: Any


def _kind_of(element, default: str) -> str:
    """Return the kind that the name of a layer or shape begins with, otherwise a default."""
    own = element.values.get("attributes", {})
    name = str(own.get(LABEL) or own.get("id") or "").lower()
    return next((kind for kind in LAYERS if name.startswith(kind)), default)


def _shapes(group, kind: str = "") -> Iterator[_Shape]:
    """Yield the shapes in a group and in the groups in it."""
    for element in group:
        if isinstance(element, list):
            yield from _shapes(element, _kind_of(element, kind))
        elif isinstance(element, svgelements.Shape):
            yield _Shape(_kind_of(element, kind), element)


def _images(svg) -> list:
    return [element for element in svg.elements() if isinstance(element, svgelements.Image)]


def _shown(root: Element) -> bytes:
    """Return an SVG in which nothing is hidden."""
    root = copy.deepcopy(root)
    for element in root.iter():
        element.attrib.pop("display", None)
        if "style" in element.attrib:
            style = _style(element)
            style.pop("display", None)
            element.set("style", ";".join(f"{key}:{value}" for key, value in style.items()))
    return ElementTree.tostring(root)


def _matrix_to_pixels(svg, root: Element, name: str, shape: tuple[int, int]) -> np.ndarray:
    """Return the map `[2, 3]` from the drawing to the pixels of the photograph."""
    held = [*root.iter(svg_labels.SVG + "image")]
    if len(held) > 1:
        raise UserError(f"{name} holds {len(held)} images: keep the photograph only")
    images = _images(svg)
    if held and not images:  # a hidden photograph fills the image too
        images = _images(svgelements.SVG.parse(io.BytesIO(_shown(root)), reify=True))
    if held and not (images and held[0].get("width") and held[0].get("height")):
        raise UserError(f"{name} holds an image without a place or a size: import it again")
    left, top, width, height = 0.0, 0.0, float(svg.width or 0), float(svg.height or 0)
    matrix, what = svgelements.Matrix(), "the page"
    if images:
        (image,) = images
        left, top, width, height = (
            float(value or 0) for value in (image.x, image.y, image.width, image.height)
        )
        matrix, what = image.transform, "the image"
    if width <= 0 or height <= 0:
        raise UserError(f"{name} has no size: give its page the size of the photograph")
    if abs(width * shape[0] / (height * shape[1]) - 1) > 2 / min(shape):
        raise UserError(
            f"{what} in {name} is {width:g}x{height:g} wide and high, and the photograph "
            f"{shape[1]}x{shape[0]}: draw over the whole photograph"
        )
    forward = np.array([[matrix.a, matrix.c, matrix.e], [matrix.b, matrix.d, matrix.f], [0, 0, 1]])
    place = np.diag([shape[1] / width, shape[0] / height, 1]) @ [
        [1, 0, -left],
        [0, 1, -top],
        [0, 0, 1],
    ]
    return (place @ np.linalg.inv(forward))[:2]


def _rings(element, matrix: np.ndarray, name: str) -> list[np.ndarray]:
    """Return the vertices `[N, 2]` of each part of a shape, in pixels."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    rings = []
    for part in svgelements.Path(element).as_subpaths():
        points: list[Any] = []
        for segment in svgelements.Path(part).segments():
            if isinstance(segment, svgelements.Move | svgelements.Line | svgelements.Close):
                points.append(segment.end)
            else:
                left, top, right, bottom = segment.bbox()
                extent = scale * (right - left + bottom - top)
                steps = int(np.clip(STEPS_PER_PIXEL * extent, 8, MAX_STEPS))
                points.extend(segment.point(k / steps) for k in range(1, steps + 1))
        vertices = np.array([(point.x, point.y) for point in points if point is not None], float)
        if len(vertices) > 1:
            rings.append(vertices.reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2])
    if any(not np.all(np.abs(ring) <= MAX_COORDINATE) for ring in rings):
        raise UserError(f"{name} has a shape far outside the photograph: remove it")
    return rings


def _is_painted(element, kind: str) -> bool:
    """Return whether the fill or the stroke of a shape can be seen."""
    paint = getattr(element, kind)
    values = element.values
    shares = [str(values.get(key, 1)) for key in ("opacity", f"{kind}-opacity")]
    is_seen = values.get("visibility", "visible") == "visible" and not any(
        float(share.rstrip("%")) == 0 for share in shares
    )
    return is_seen and paint is not None and paint.value is not None and paint.alpha != 0


def _points(ring: np.ndarray, height: int) -> list[kdb.Point]:
    """Return the vertices of a ring `[N, 2]` in pixels, y downwards, as those of a layout."""
    steps = np.rint(UNITS * np.stack([ring[:, 0], height - ring[:, 1]], 1)).astype(int)
    return [kdb.Point(x, y) for x, y in steps.tolist()]


def _filled(rings: list[np.ndarray], height: int, is_even_odd: bool) -> list[kdb.Polygon]:
    """Return the inside of a shape."""
    edges = []
    for ring in rings:
        points = _points(ring, height)
        edges += map(kdb.Edge, points, [*points[1:], points[0]])
    rule = 0 if is_even_odd else -1
    return kdb.EdgeProcessor().simple_merge_e2p(edges, False, False, rule)


def _stroked(
    element, rings: list[np.ndarray], scale: float, height: int, name: str
) -> list[kdb.Polygon]:
    """Return the areas of a shape's stroke."""
    cap = CAPS.get(str(element.values.get("stroke-linecap")), "flat")
    join = JOINS.get(str(element.values.get("stroke-linejoin")), "mitre")
    mitre = float(element.values.get("stroke-miterlimit", 4))
    half = 0.5 * float(element.stroke_width) * scale
    if not half <= MAX_STROKE / 2:
        raise UserError(f"{name} has a stroke {2 * half:g} pixels wide: make it thinner")
    out = []
    for ring in rings:
        line = shapely.LineString(ring)
        area = line.buffer(half, cap_style=cap, join_style=join, mitre_limit=mitre)
        for part in shapely.get_parts(area):
            polygon = kdb.Polygon(_points(np.asarray(part.exterior.coords), height))
            for hole in part.interiors:
                polygon.insert_hole(_points(np.asarray(hole.coords), height))
            out.append(polygon)
    return out


def _to_layout(shapes: list[_Shape], matrix: np.ndarray, name: str, height: int) -> Drawing:
    """Return a layout of the shapes."""
    layout = kdb.Layout()
    layout.dbu = 1 / UNITS
    cell = layout.create_cell("TOP")
    layers = {kind: cell.shapes(layout.layer(*layer)) for kind, layer in LAYERS.items()}
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    is_layered = any(shape.kind for shape in shapes)
    left_out = 0
    for kind, element in shapes:
        if not kind and is_layered:
            left_out += 1
            continue
        is_round = isinstance(element, svgelements.Circle | svgelements.Ellipse)
        into = layers[kind or ("via" if is_round else "metal")]
        rings = _rings(element, matrix, name)
        if _is_painted(element, "fill"):
            is_even_odd = element.values.get("fill-rule") == "evenodd"
            for polygon in _filled(rings, height, is_even_odd):
                into.insert(polygon)
        if _is_painted(element, "stroke") and element.stroke_width:
            for polygon in _stroked(element, rings, scale, height, name):
                into.insert(polygon)
    return Drawing(layout, left_out)
