"""HY5SYN's label files: metal tracks and vias of a tile as SVG.

What a file means follows its authors' own reader (emsec/unsupervised-ic-sem-segmentation): every
path is one track, whose vertices are joined in the order they come in; every circle is a via.
"""

import dataclasses
import itertools
import pathlib
import re

import cv2
import defusedxml
import defusedxml.ElementTree
import numpy as np

from eal_icnet_jax import images
from eal_icnet_jax.errors import UserError

SVG = "{http://www.w3.org/2000/svg}"
WITHOUT_SHAPE = {SVG + name for name in ("svg", "g", "defs", "title", "desc", "metadata")}
VERTEX = re.compile(r"[ML]\s*(-?\d{1,9})[\s,]\s*(-?\d{1,9})\s*|Z\s*")


@dataclasses.dataclass(frozen=True)
class Labels:
    """A tile's labels, in pixels.

    height, width: of the tile.
    tracks: vertices (x, y) `[N, 2]` int32 of each track.
    vias: centre and radius (x, y, r) of each via.
    """

    height: int
    width: int
    tracks: tuple[np.ndarray, ...]
    vias: tuple[tuple[int, int, int], ...]

    @classmethod
    def of_masks(cls, tracks: np.ndarray, vias: np.ndarray) -> "Labels":
        """The labels of two masks `[H, W]` bool: the tracks' exactly, and discs for the vias."""
        height, width = tracks.shape
        return cls(height, width, tuple(without_holes(tracks)), tuple(discs(vias)))

    def rasterize(self) -> dict[str, np.ndarray]:
        """`label`, the union of the tracks, and `via_label`, that of the vias; `[H, W]` bool.

        A track is filled by the even-odd rule and its outline belongs to it, so that one without
        area is a line or a point.
        """
        tracks, vias = (np.zeros((self.height, self.width), np.uint8) for _ in range(2))
        for track in self.tracks:  # one at a time: overlaps of one call would cancel
            cv2.fillPoly(tracks, [track], 1)
        for x, y, radius in self.vias:
            cv2.circle(vias, (x, y), radius, 1, cv2.FILLED, cv2.LINE_4)
        return {"label": tracks.view(bool), "via_label": vias.view(bool)}

    def to_svg(self) -> str:
        """The labels as a file of HY5SYN's form."""
        paths = []
        for track in self.tracks:
            corners = " L".join(f"{x},{y}" for x, y in [*track, track[0]])
            paths.append(f'<path d="M{corners} Z" fill="lime" />')
        circles = [f'<circle cx="{x}" cy="{y}" r="{r}" fill="red" />' for x, y, r in self.vias]
        return "\n".join(
            [
                '<?xml version="1.0" encoding="UTF-8"?>',
                '<svg xmlns="http://www.w3.org/2000/svg" '
                'xmlns:xlink="http://www.w3.org/1999/xlink"',
                f'     width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}">',
                "<defs>",
                "</defs>",
                *paths,
                *circles,
                "</svg>",
                "",
            ]
        )


def without_holes(mask: np.ndarray) -> list[np.ndarray]:
    """Outlines `[N, 2]` (x, y) whose fillings, outline included, unite to the mask `[H, W]` bool.

    HY5SYN's tracks have no holes: a region that has some is cut through each into strips.
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
        cuts = []
        while hole >= 0:
            x, _, width, _ = cv2.boundingRect(contours[hole])
            cuts.append(x + width // 2)
            hole = hierarchy[0][hole][0]
        region = np.zeros(mask.shape, np.uint8)
        cv2.drawContours(region, contours, index, 1, cv2.FILLED, hierarchy=hierarchy, maxLevel=1)
        region &= mask
        edges = [0, *sorted(set(cuts)), mask.shape[1]]
        for left, right in itertools.pairwise(edges):
            strip = np.zeros_like(region)
            strip[:, left:right] = region[:, left:right]
            parts, _ = cv2.findContours(strip, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            outlines.extend(part[:, 0] for part in parts)
    return outlines


def discs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Centre and radius (x, y, r) of the discs nearest to a mask's regions `[H, W]` bool."""
    count, _, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[1:count, cv2.CC_STAT_AREA]
    return [
        (round(x), round(y), max(1, round(float(np.sqrt(area / np.pi)))))
        for (x, y), area in zip(centres[1:count], areas, strict=True)
    ]


def parse(data: bytes, name: str) -> Labels:
    """Reads a label file.

    Args:
      data: the file's bytes.
      name: of the file, for the error.

    Raises:
      UserError: it is no SVG, defines entities, has no size, or holds a shape that is no track or
        via, or one outside the tile.
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
    width, height = (_whole(root, key, name) for key in ("width", "height"))
    if width < 1 or height < 1 or width * height > images.LARGEST:
        raise UserError(f"{name} is {height}x{width} (height x width): give it its tile's size")
    box = root.get("viewBox", f"0 0 {width} {height}").split()
    if box != ["0", "0", str(width), str(height)]:
        raise UserError(f"{name} has viewBox {' '.join(box)}: write its shapes in pixels")
    tracks, vias = [], []
    for element in root.iter():
        if element.get("transform"):
            raise UserError(f"{name} has a transform: write its shapes in pixels")
        if element.tag == SVG + "path":
            tracks.append(_vertices(element.get("d", ""), f"path {len(tracks) + 1} of {name}"))
            corners = tracks[-1]
            if corners.min() < 0 or np.any(corners.max(0) >= (width, height)):
                raise UserError(
                    f"path {len(tracks)} of {name} reaches outside its tile of {height}x{width} "
                    "(height x width): clip it"
                )
        elif element.tag == SVG + "circle":
            what = f"circle {len(vias) + 1} of {name}"
            x, y, radius = (_whole(element, key, what) for key in ("cx", "cy", "r"))
            if not (0 <= x < width and 0 <= y < height and 0 <= radius <= max(width, height)):
                raise UserError(
                    f"{what} lies outside its tile of {height}x{width} (height x width) or has no "
                    "radius: remove it"
                )
            vias.append((x, y, radius))
        elif element.tag not in WITHOUT_SHAPE:
            shape = str(element.tag).rpartition("}")[2]
            raise UserError(
                f"{name} holds a {shape}: draw tracks as paths and vias as circles alone"
            )
    return Labels(height, width, tuple(tracks), tuple(vias))


def _whole(element, key: str, where: str) -> int:
    text = element.get(key, "")
    if not re.fullmatch(r"-?\d{1,9}", text.removesuffix("px")):
        raise UserError(f"{where} has {key}={text!r}: write a whole number of pixels")
    return int(text.removesuffix("px"))


def _vertices(path: str, where: str) -> np.ndarray:
    vertices, end = [], 0
    path = path.strip()
    for match in VERTEX.finditer(path):
        if match.start() != end:
            break
        end = match.end()
        if match[1]:
            vertices.append((int(match[1]), int(match[2])))
    if end != len(path) or not vertices:
        raise UserError(
            f"{where} has {path[end : end + 20] or path!r}: draw it with M, L and Z in whole pixels"
        )
    return np.array(vertices, np.int32)


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], bool]:
    """The masks of a label file, which are exact: its second return is True."""
    return parse(images.read_bytes(path), str(path)).rasterize(), True
