"""Electrically significant differences: what a netlist drawn from a prediction would have wrong.

Rothaug et al., Towards Unsupervised SEM Image Segmentation for IC Layout Extraction, ASHES 2023.
A net is a connected piece of the label's metal, a wire one of the prediction's. A wire that touches
several nets shorts them, a net that several wires touch is open between them.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SMALLEST, BORDER = 35, 35
"""The published evaluation's least area of a wire, and width of the border, in pixels."""


@dataclasses.dataclass(frozen=True)
class ElectricalDifferences:
    """Counts over the nets and wires that are considered.

    opens: of each net, the wires that touch it but for one, summed.
    shorts: of each wire, the nets that it touches but for one, summed.
    false_positives: wires that touch no net.
    false_negatives: nets that no wire touches.
    nets: of the label.
    """

    opens: int = 0
    shorts: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    nets: int = 0

    def __add__(self, other: "ElectricalDifferences") -> "ElectricalDifferences":
        return ElectricalDifferences(
            *(a + b for a, b in zip(*map(dataclasses.astuple, (self, other)), strict=True))
        )


@dataclasses.dataclass(frozen=True)
class Matching:
    """Which wires touch which nets.

    nets, wires: `[N]` bool, which of them count.
    pairs: `[P, 2]` indices (wire, net), each once.
    """

    nets: np.ndarray
    wires: np.ndarray
    pairs: np.ndarray

    def nets_of_wires(self) -> np.ndarray:
        """How many nets each wire touches, `[wires]`."""
        return np.bincount(self.pairs[:, 0], minlength=len(self.wires))

    def wires_of_nets(self) -> np.ndarray:
        """How many wires touch each net, `[nets]`."""
        return np.bincount(self.pairs[:, 1], minlength=len(self.nets))

    def opened(self) -> np.ndarray:
        """Which wires are of a net that others touch too, `[wires]` bool."""
        wire, net = self.pairs.T
        out = np.zeros(len(self.wires), bool)
        out[wire[self.wires_of_nets()[net] > 1]] = True
        return out

    def differences(self) -> ElectricalDifferences:
        of_wire, of_net = self.nets_of_wires(), self.wires_of_nets()
        return ElectricalDifferences(
            opens=int(np.maximum(of_net - 1, 0).sum()),
            shorts=int(np.maximum(of_wire - 1, 0).sum()),
            false_positives=int(np.sum(self.wires & (of_wire == 0))),
            false_negatives=int(np.sum(self.nets & (of_net == 0))),
            nets=int(self.nets.sum()),
        )


def _reach_inside(low: np.ndarray, high: np.ndarray, size: Sequence[int], border: int | None):
    """Which boxes from `low` to `high` `[N, 2]` (x, y) do not lie in an image's border alone."""
    if border is None:
        border = min(BORDER, min(size) // 8)
    return np.all((high > border) & (low < np.array(size) - border), axis=1)


def connected(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8-connected regions of a mask `[H, W]`: their image, and OpenCV's statistics `[N, 5]`.

    Region 0 is the background.
    """
    _, image, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    return image, statistics


@dataclasses.dataclass(frozen=True)
class Regions:
    """The regions of a mask.

    image: `[H, W]`, each pixel's region, 0 for background.
    boxes: `[N, 4]`, left, top, right and bottom pixel of each.
    counted: `[N]`, which of them count.
    """

    image: np.ndarray
    boxes: np.ndarray
    counted: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, smallest: float, border: int | None) -> "Regions":
        image, found = connected(mask)
        low = found[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
        high = low + found[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]] - 1
        counted = _reach_inside(low, high, mask.shape[::-1], border)
        counted &= found[:, cv2.CC_STAT_AREA] >= smallest
        counted[0] = False
        return cls(image, np.concatenate([low, high], axis=1), counted)


def _pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The distinct pairs `[P, 2]` of two lists of indices of one length."""
    width = int(b.max(initial=0)) + 1
    return np.stack(np.divmod(np.unique(a.astype(np.int64) * width + b), width), axis=1)


def match_masks(nets: Regions, wires: Regions) -> Matching:
    """Wires and nets that share a pixel."""
    both = nets.counted[nets.image] & wires.counted[wires.image]
    return Matching(nets.counted, wires.counted, _pairs(wires.image[both], nets.image[both]))


@dataclasses.dataclass(frozen=True)
class Fault:
    """Where a wire is wrong: its kind, a field of `ElectricalDifferences`, and a box in pixels.

    An open's box is the metal that is missing between two wires, a short's the metal that joins two
    nets; the other kinds' is the whole wire or net.
    """

    kind: str
    left: int
    top: int
    right: int
    bottom: int


def faults(nets: Regions, wires: Regions) -> list[Fault]:
    """Where the differences of two masks are. One place may open or short more than two."""
    matching = match_masks(nets, wires)
    found = []
    for kind, of, alone in (
        ("false_positives", wires, matching.wires & (matching.nets_of_wires() == 0)),
        ("false_negatives", nets, matching.nets & (matching.wires_of_nets() == 0)),
    ):
        found += [Fault(kind, *map(int, box)) for box in of.boxes[alone]]
    for kind, whole, parts in (("shorts", wires, nets), ("opens", nets, wires)):
        part = np.where(parts.counted[parts.image], parts.image, 0)
        # Pieces of the one that lie beside the other, and what each of them touches.
        between = Regions.of(whole.counted[whole.image] & (part == 0), 1, 0)
        touching = _pairs(*_neighbours(between.image, part))
        joins = np.bincount(touching[:, 0], minlength=len(between.boxes)) > 1
        found += [Fault(kind, *map(int, box)) for box in between.boxes[joins]]
    return found


def _neighbours(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of `a` and of `b` at 8-neighbouring pixels, where neither is 0."""
    height, width = a.shape
    out = []
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        here = np.s_[: height - dy, max(0, -dx) : width - max(0, dx)]
        there = np.s_[dy:, max(0, dx) : width + min(0, dx)]
        for first, second in ((here, there), (there, here)):
            both = (a[first] > 0) & (b[second] > 0)
            out.append((a[first][both], b[second][both]))
    return tuple(np.concatenate(values) for values in zip(*out, strict=True))


def match_polygons(
    label: Sequence,
    prediction: Sequence,
    size: tuple[int, int] | None,
    smallest: float,
    border: int | None,
) -> Matching:
    """Wires and nets whose shapes share a point; label polygons that do are one net.

    Args:
      label, prediction: of `shapely.Polygon`.
      size: the image's height and width; None: there is no border.
    """
    import shapely

    label, prediction = (np.array(shapes, object) for shapes in (label, prediction))

    def kept(shapes):
        if size is None or not len(shapes):
            return shapes
        boxes = shapely.bounds(shapes)
        return shapes[_reach_inside(boxes[:, :2], boxes[:, 2:], size[::-1], border)]

    label, prediction = kept(label), kept(prediction[shapely.area(prediction) >= smallest])
    tree = shapely.STRtree(label)
    a, b = tree.query(label, predicate="intersects")
    touching = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(label),) * 2)
    count, net = connected_components(touching, directed=False) if len(label) else (0, None)
    wire, piece = tree.query(prediction, predicate="intersects")
    pairs = _pairs(wire, net[piece] if count else piece)
    return Matching(np.ones(count, bool), np.ones(len(prediction), bool), pairs)
