"""HY5SYN's label files: metal tracks and vias of a tile as SVG.

A file is interpreted as its authors' own reader does (emsec/unsupervised-ic-sem-segmentation):
every path is one track, whose vertices are joined in their order, and every circle is a via.
"""

import dataclasses
import itertools
import pathlib
import re
from xml.etree.ElementTree import Element

import cv2
import defusedxml
import defusedxml.ElementTree
import numpy as np

from eal_icnet_jax.imaging import decoding, mosaics
from eal_icnet_jax.system.errors import UserError

SVG = "{http://www.w3.org/2000/svg}"
"""XML namespace of SVG."""

IGNORED_TAGS = {SVG + name for name in ("svg", "g", "defs", "title", "desc", "metadata")}
"""Elements that draw nothing themselves."""

PLAIN_ATTRIBUTES = {"d", "fill", "cx", "cy", "r", "id"}
"""Attributes of the elements in HY5SYN's files, apart from those of the page."""

PATH_COMMAND = re.compile(r"[ML]\s*(-?\d{1,9})[\s,]\s*(-?\d{1,9})\s*|Z\s*")

HEADER = """\
<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
     width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<defs>
</defs>
"""


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of a tile, in pixels.

    Attributes:
      height, width: of the tile.
      tracks: vertices (x, y) `[N, 2]` int32 of each track.
      vias: centre and radius (x, y, r) of each via.
    """

    height: int
    width: int
    tracks: tuple[np.ndarray, ...]
    vias: tuple[tuple[int, int, int], ...]

    @classmethod
    def from_masks(cls, tracks: np.ndarray, vias: np.ndarray) -> "Labels":
        """Return the labels of two masks `[H, W]` bool: exact tracks, and discs for the vias."""
        height, width = tracks.shape
        return cls(height, width, tuple(hole_free_outlines(tracks)), tuple(discs(vias)))

    def rasterize(self) -> dict[str, np.ndarray]:
        """Return the union of the tracks as `label` and that of the vias as `via_label`.

        A track is filled by the even-odd rule and includes its outline, so that a track without
        area is a line or a point.

        Returns:
          Masks `[H, W]` bool.
        """
        tracks, vias = (np.zeros((self.height, self.width), np.uint8) for _ in range(2))
        for track in self.tracks:  # one by one, because overlaps within one call would cancel out
            cv2.fillPoly(tracks, [track], 1)
        for x, y, radius in self.vias:
            cv2.circle(vias, (x, y), radius, 1, cv2.FILLED, cv2.LINE_4)
        return {"label": tracks.view(bool), "via_label": vias.view(bool)}

    def to_svg(self) -> str:
        """Return the content of a file in HY5SYN's form."""
        shapes = []
        for track in self.tracks:
            corners = " L".join(f"{x},{y}" for x, y in [*track, track[0]])
            shapes.append(f'<path d="M{corners} Z" fill="lime" />\n')
        shapes += [f'<circle cx="{x}" cy="{y}" r="{r}" fill="red" />\n' for x, y, r in self.vias]
        return f"{HEADER.format(width=self.width, height=self.height)}{''.join(shapes)}</svg>\n"


def hole_free_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return outlines whose fillings, with the outlines themselves, unite to a mask.

    HY5SYN's tracks have no holes, so a region with holes is cut through each hole into strips.

    Args:
      mask: `[H, W]` bool.

    Returns:
      Vertices (x, y) `[N, 2]` int32 of each outline.
    """
    outlines = []
    contours, hierarchy = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    for index, contour in enumerate(contours):
        _, _, hole, parent = hierarchy[0][index]
        if parent >= 0:
            continue
        if hole < 0:
            outlines.append(contour[:, 0])
            continue
        cuts = set()
        while hole >= 0:
            x, _, width, _ = cv2.boundingRect(contours[hole])
            cuts.add(x + width // 2)
            hole = hierarchy[0][hole][0]
        region = np.zeros(mask.shape, np.uint8)
        cv2.drawContours(region, contours, index, 1, cv2.FILLED, hierarchy=hierarchy, maxLevel=1)
        region &= mask
        for left, right in itertools.pairwise([0, *sorted(cuts), mask.shape[1]]):
            strip = np.zeros_like(region)
            strip[:, left:right] = region[:, left:right]
            parts, _ = cv2.findContours(strip, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            outlines.extend(part[:, 0] for part in parts)
    return outlines


def discs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Return centre and radius (x, y, r) of a disc for each 8-connected region of a mask.

    Args:
      mask: `[H, W]` bool.
    """
    count, _, statistics, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = statistics[1:count, cv2.CC_STAT_AREA]
    return [
        (round(x), round(y), max(1, round(float(np.sqrt(area / np.pi)))))
        for (x, y), area in zip(centres[1:count], areas, strict=True)
    ]


def is_plain(root: Element) -> bool:
    """Return whether an SVG draws all that it holds, without styles, layers and definitions.

    If it does not, it is no file of HY5SYN's, whose reader knows nothing of them.
    """
    drawn = [element for element in root.iter() if element is not root]
    return not any(len(element) for element in root.iter(SVG + "defs")) and all(
        set(element.keys()) <= PLAIN_ATTRIBUTES and element.get("fill") != "none"
        for element in drawn
    )


def parse(data: bytes, name: str) -> Labels:
    """Read the content of a label file.

    Args:
      data: content of the file.
      name: of the file, for error messages.

    Raises:
      UserError: it is not an SVG, defines entities, has no size, or holds a shape that is neither
        track nor via or lies outside the tile.
    """
    return labels_of(parse_xml(data, name), name)


def labels_of(root: Element, name: str) -> Labels:
    """Return the labels of an SVG.

    Args:
      root: of `parse_xml`.
      name: of the file, for error messages.

    Raises:
      UserError: see `parse`.
    """
    width, height = (_integer(root, key, name) for key in ("width", "height"))
    if width < 1 or height < 1 or width * height > mosaics.MAX_PIXELS:
        raise UserError(f"{name} is {height}x{width} (height x width): give it its tile's size")
    box = root.get("viewBox", f"0 0 {width} {height}").split()
    if box != ["0", "0", str(width), str(height)]:
        raise UserError(f"{name} has viewBox {' '.join(box)}: write its shapes in pixels")
    tracks: list[np.ndarray] = []
    vias: list[tuple[int, int, int]] = []
    for element in root.iter():
        if element.get("transform"):
            raise UserError(f"{name} has a transform: write its shapes in pixels")
        if element.tag == SVG + "path":
            tracks.append(_track(element, f"path {len(tracks) + 1} of {name}", height, width))
        elif element.tag == SVG + "circle":
            vias.append(_via(element, f"circle {len(vias) + 1} of {name}", height, width))
        elif element.tag not in IGNORED_TAGS:
            shape = str(element.tag).rpartition("}")[2]
            raise UserError(
                f"{name} holds a {shape}: draw tracks as paths and vias as circles, nothing else"
            )
    return Labels(height, width, tuple(tracks), tuple(vias))


def parse_xml(data: bytes, name: str) -> Element:
    """Return the root of an SVG.

    Args:
      data: content of the file.
      name: of the file, for error messages.

    Raises:
      UserError: it is not one, or defines entities.
    """
    try:
        root = defusedxml.ElementTree.fromstring(data)
    except defusedxml.DefusedXmlException as error:
        raise UserError(
            f"{name} defines or refers to entities, which no label does: replace the file"
        ) from error
    except (defusedxml.ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{name} is no readable SVG ({error}): replace the file") from error
    if root.tag != SVG + "svg":
        raise UserError(f"{name} is XML, but no SVG: replace the file")
    return root


def _integer(element: Element, key: str, name: str) -> int:
    """Return an attribute that is a whole number of pixels."""
    text = element.get(key, "")
    if not re.fullmatch(r"-?\d{1,9}", text.removesuffix("px")):
        raise UserError(f"{name} has {key}={text!r}: write a whole number of pixels")
    return int(text.removesuffix("px"))


def _track(element: Element, name: str, height: int, width: int) -> np.ndarray:
    """Return the vertices (x, y) `[N, 2]` int32 of a path."""
    path = element.get("d", "").strip()
    vertices, end = [], 0
    for match in PATH_COMMAND.finditer(path):
        if match.start() != end:
            break
        end = match.end()
        if match[1]:
            vertices.append((int(match[1]), int(match[2])))
    if end != len(path) or not vertices:
        raise UserError(
            f"{name} has {path[end : end + 20] or path!r}: draw it with M, L and Z in whole pixels"
        )
    track = np.array(vertices, np.int32)
    if track.min() < 0 or np.any(track.max(0) >= (width, height)):
        raise UserError(
            f"{name} reaches outside its tile of {height}x{width} (height x width): clip it"
        )
    return track


def _via(element: Element, name: str, height: int, width: int) -> tuple[int, int, int]:
    """Return centre and radius (x, y, r) of a circle."""
    x, y, radius = (_integer(element, key, name) for key in ("cx", "cy", "r"))
    if not (0 <= x < width and 0 <= y < height and 0 <= radius <= max(width, height)):
        raise UserError(
            f"{name} lies outside its tile of {height}x{width} (height x width) or has no radius: "
            "remove it"
        )
    return x, y, radius


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the masks of a label file, and no notes, because nothing has to be assumed."""
    return parse(decoding.read_bytes(path), str(path)).rasterize(), ()
