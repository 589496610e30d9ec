"""Electrically significant differences: errors in a netlist that is drawn from a prediction.

Rothaug et al., Towards Unsupervised SEM Image Segmentation for IC Layout Extraction, ASHES 2023. A
net is a connected region of the label's metal, a wire one of the prediction's. A wire that touches
several nets shorts them, and a net that several wires touch is open between them.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from eal_icnet_jax.imaging.regions import connected_regions

MIN_WIRE_AREA = 35
"""Smallest area of a wire in pixels, as in the published evaluation."""

BORDER_WIDTH = 35
"""Width of the image's border in pixels, as in the published evaluation."""


@dataclasses.dataclass(frozen=True)
class ElectricalDifferences:
    """Numbers of differences between nets and wires.

    Attributes:
      opens: for each net the number of wires that touch it, minus one; summed.
      shorts: for each wire the number of nets that it touches, minus one; summed.
      false_positives: number of wires that touch no net.
      false_negatives: number of nets that no wire touches.
      nets: number of nets in the label.
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

    Attributes:
      nets: `[N]` bool, whether each net counts.
      wires: `[M]` bool, whether each wire counts.
      pairs: `[P, 2]` indices (wire, net), each pair once.
    """

    nets: np.ndarray
    wires: np.ndarray
    pairs: np.ndarray

    def nets_per_wire(self) -> np.ndarray:
        """Return how many nets each wire touches, `[M]`."""
        return np.bincount(self.pairs[:, 0], minlength=len(self.wires))

    def wires_per_net(self) -> np.ndarray:
        """Return how many wires touch each net, `[N]`."""
        return np.bincount(self.pairs[:, 1], minlength=len(self.nets))

    def is_part_of_open(self) -> np.ndarray:
        """Return which wires touch a net that other wires touch too, `[M]` bool."""
        wire, net = self.pairs.T
        out = np.zeros(len(self.wires), bool)
        out[wire[self.wires_per_net()[net] > 1]] = True
        return out

    def differences(self) -> ElectricalDifferences:
        """Count the differences."""
        nets_per_wire, wires_per_net = self.nets_per_wire(), self.wires_per_net()
        return ElectricalDifferences(
            opens=int(np.maximum(wires_per_net - 1, 0).sum()),
            shorts=int(np.maximum(nets_per_wire - 1, 0).sum()),
            false_positives=int(np.sum(self.wires & (nets_per_wire == 0))),
            false_negatives=int(np.sum(self.nets & (wires_per_net == 0))),
            nets=int(self.nets.sum()),
        )


def reaches_inside(
    low: np.ndarray, high: np.ndarray, size: Sequence[int], border: int | None
) -> np.ndarray:
    """Return which boxes do not lie entirely within the image's border, `[N]` bool.

    Args:
      low: lowest (x, y) of each box, `[N, 2]`.
      high: highest (x, y) of each box, `[N, 2]`.
      size: width and height of the image.
      border: width; None for the default.
    """
    if border is None:
        border = min(BORDER_WIDTH, min(size) // 8)
    return np.all((high > border) & (low < np.array(size) - border), axis=1)


@dataclasses.dataclass(frozen=True)
class Regions:
    """The 8-connected regions of a mask.

    Attributes:
      image: `[H, W]`, the region of each pixel; 0 is background.
      boxes: `[N, 4]`, left, top, right and bottom pixel of each region.
      counted: `[N]` bool, whether each region counts.
    """

    image: np.ndarray
    boxes: np.ndarray
    counted: np.ndarray

    @classmethod
    def of_mask(cls, mask: np.ndarray, min_area: float, border: int | None) -> "Regions":
        """Find the regions of a mask; those below an area or within the border do not count."""
        return cls.of_connected(*connected_regions(mask), min_area, border)

    @classmethod
    def of_connected(
        cls, image: np.ndarray, statistics: np.ndarray, min_area: float, border: int | None
    ) -> "Regions":
        """Return the regions that `connected_regions` has found, as `of_mask` does."""
        low = statistics[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
        high = low + statistics[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]] - 1
        counted = reaches_inside(low, high, image.shape[::-1], border)
        counted &= statistics[:, cv2.CC_STAT_AREA] >= min_area
        counted[0] = False
        return cls(image, np.concatenate([low, high], axis=1), counted)

    def without_cut_pieces(self, valid: np.ndarray, min_area: float) -> "Regions":
        """Return the regions, without counting small ones that touch ignored pixels.

        Args:
          valid: `[H, W]` bool, the pixels that count.
          min_area: in pixels.
        """
        beside = cv2.dilate((~valid).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        is_small = np.bincount(self.image.ravel(), minlength=len(self.counted)) < min_area
        is_cut = np.zeros(len(self.counted), bool)
        is_cut[np.unique(self.image[beside])] = True
        return dataclasses.replace(self, counted=self.counted & ~(is_small & is_cut))


def distinct_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distinct pairs `[P, 2]` of two arrays of indices of one length."""
    width = int(b.max(initial=0)) + 1
    return np.stack(np.divmod(np.unique(a.astype(np.int64) * width + b), width), axis=1)


def match_masks(nets: Regions, wires: Regions) -> Matching:
    """Match wires and nets that share a pixel."""
    both = nets.counted[nets.image] & wires.counted[wires.image]
    pairs = distinct_pairs(wires.image[both], nets.image[both])
    return Matching(nets.counted, wires.counted, pairs)


@dataclasses.dataclass(frozen=True)
class Fault:
    """The place of a difference.

    Attributes:
      kind: a field of `ElectricalDifferences`.
      left, top, right, bottom: box in pixels, inclusive. An open's box is the missing metal between
        two wires, and a short's is the metal that joins two nets. For the other kinds it is the
        whole wire or net.
    """

    kind: str
    left: int
    top: int
    right: int
    bottom: int


def find_faults(nets: Regions, wires: Regions) -> list[Fault]:
    """Return the places of all differences. One place may open or short more than two regions."""
    matching = match_masks(nets, wires)
    faults = []
    for kind, regions, unmatched in (
        ("false_positives", wires, matching.wires & (matching.nets_per_wire() == 0)),
        ("false_negatives", nets, matching.nets & (matching.wires_per_net() == 0)),
    ):
        faults += [Fault(kind, *map(int, box)) for box in regions.boxes[unmatched]]
    for kind, joining, joined in (("shorts", wires, nets), ("opens", nets, wires)):
        part = np.where(joined.counted[joined.image], joined.image, 0)
        # Pieces of one mask's regions outside the other's, and the regions that each piece touches.
        between = Regions.of_mask(joining.counted[joining.image] & (part == 0), 1, 0)
        touching = distinct_pairs(*_neighbours(between.image, part))
        joins = np.bincount(touching[:, 0], minlength=len(between.boxes)) > 1
        faults += [Fault(kind, *map(int, box)) for box in between.boxes[joins]]
    return faults


def _neighbours(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of `a` and of `b` at 8-neighbouring pixels where neither is 0."""
    height, width = a.shape
    out = []
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        pixel = np.s_[: height - dy, max(0, -dx) : width - max(0, dx)]
        neighbour = np.s_[dy:, max(0, dx) : width + min(0, dx)]
        for first, second in ((pixel, neighbour), (neighbour, pixel)):
            both = (a[first] > 0) & (b[second] > 0)
            out.append((a[first][both], b[second][both]))
    first_values, second_values = zip(*out, strict=True)
    return np.concatenate(first_values), np.concatenate(second_values)


def match_polygons(
    label: Sequence,
    prediction: Sequence,
    size: tuple[int, int] | None,
    min_wire_area: float,
    border: int | None,
) -> Matching:
    """Match wires and nets that share a point. Label polygons that share a point are one net.

    Args:
      label: sequence of `shapely.Polygon`.
      prediction: sequence of `shapely.Polygon`.
      size: height and width of the image; None for no border.
      min_wire_area: smallest area of a wire in pixels.
      border: width in pixels; None for the default.
    """
    import shapely  # not needed for masks

    nets, wires = (np.array(shapes, object) for shapes in (label, prediction))

    def outside_border(shapes):
        if size is None or not len(shapes):
            return shapes
        boxes = shapely.bounds(shapes)
        return shapes[reaches_inside(boxes[:, :2], boxes[:, 2:], size[::-1], border)]

    nets = outside_border(nets)
    wires = outside_border(wires[shapely.area(wires) >= min_wire_area])
    tree = shapely.STRtree(nets)
    a, b = tree.query(nets, predicate="intersects")
    touching = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(nets),) * 2)
    count, net = (0, np.empty(0, int))
    if len(nets):
        count, net = connected_components(touching, directed=False)
    wire, polygon = tree.query(wires, predicate="intersects")
    pairs = distinct_pairs(wire, net[polygon] if count else polygon)
    return Matching(np.ones(count, bool), np.ones(len(wires), bool), pairs)
