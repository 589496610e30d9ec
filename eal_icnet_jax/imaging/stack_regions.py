"""The connected regions of a stack of masks, and the nets that they form."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.imaging.mosaics import blocks
from eal_icnet_jax.imaging.regions import connected_regions

Mask = np.ndarray | MosaicMask

BLOCK = 2048
"""Side in pixels of the parts that are looked at one after another."""


@dataclasses.dataclass(frozen=True)
class StackRegions:
    """The 8-connected regions of masks that lie one above the other, and their nets.

    Regions of neighbouring masks belong to one net if they share a pixel.

    Attributes:
      layer: index of the mask of each region, `[N]`.
      boxes: left, top, right and bottom pixel of each region, inclusive, `[N, 4]`.
      pixels: number of pixels of each region, `[N]`.
      points: column and row of a pixel of each region, the leftmost of its topmost, `[N, 2]`.
      nets: net of each region, from 0, `[N]`.
    """

    layer: np.ndarray
    boxes: np.ndarray
    pixels: np.ndarray
    points: np.ndarray
    nets: np.ndarray


class _Pieces:
    """The pieces of regions that blocks cut out, and which of them are connected."""

    def __init__(self):
        self.count = 0
        self.tables: list[np.ndarray] = []
        self.within: list[np.ndarray] = []  # pairs of pieces of one mask
        self.across: list[np.ndarray] = []  # pairs of pieces of neighbouring masks

    def add(self, layer: int, mask: np.ndarray, left: int, top: int) -> np.ndarray:
        """Add the pieces of a block, and return the piece of each pixel, from 1; 0 is ground."""
        regions, statistics = connected_regions(mask)
        low = statistics[1:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]] + (left, top)
        high = low + statistics[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]] - 1
        inside = np.flatnonzero(regions)[::-1]
        first = np.empty(len(statistics), np.int64)
        first[regions.ravel()[inside]] = inside  # the last assignment counts
        rows, columns = np.divmod(first[1:], mask.shape[1])
        self.tables.append(
            np.column_stack([
                np.full(len(low), layer), low, high, statistics[1:, cv2.CC_STAT_AREA],
                columns + left, rows + top,
            ]).astype(np.int64)
        )  # fmt: skip
        pieces = np.where(regions > 0, regions + self.count, 0)
        self.count += len(low)
        return pieces

    def connect(self, a: np.ndarray, b: np.ndarray, pairs: list[np.ndarray]):
        """Connect the pieces at equal places of two arrays."""
        both = (a > 0) & (b > 0)
        if both.any():
            pairs.append(np.unique(np.stack([a[both], b[both]], 1), axis=0) - 1)

    def components(self, *kinds: list[np.ndarray]) -> np.ndarray:
        """Return the number of the connected component of each piece."""
        pairs = np.concatenate([np.empty((0, 2), int), *(p for kind in kinds for p in kind)])
        graph = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(self.count,) * 2)
        return connected_components(graph, directed=False)[1]


def _connect_edges(pieces: _Pieces, before: np.ndarray, after: np.ndarray):
    """Connect the pieces of two lines of pixels that lie side by side, also diagonally."""
    for a, b in ((before, after), (before[1:], after[:-1]), (before[:-1], after[1:])):
        pieces.connect(a, b, pieces.within)


class StackLabels:
    """The regions of a stack, found block by block.

    `label` is called for the blocks of `mosaics.blocks` in their order. Then `net_of_piece` and
    `regions` are known.

    Args:
      masks: `[H, W]` of one size, from the lowest to the highest: metal, via, metal, and so on.
    """

    def __init__(self, masks: Sequence[Mask]):
        self._masks, self._pieces = masks, _Pieces()
        width = masks[0].shape[1]
        self._above = [np.zeros(width, np.int64) for _ in masks]
        self._last = [np.zeros(width, np.int64) for _ in masks]
        self._beside: list[np.ndarray | None] = [None for _ in masks]

    def label(self, rows: slice, columns: slice) -> list[np.ndarray]:
        """Return the piece of a region that each pixel of a block belongs to.

        Returns:
          `[h, w]` for each mask, from 1; 0 is ground. A region has a piece in each block.
        """
        pieces, out = self._pieces, []
        if columns.start == 0:
            self._above, self._beside = self._last, [None for _ in self._masks]
            self._last = [np.zeros_like(line) for line in self._above]
        for layer, mask in enumerate(self._masks):
            part = np.asarray(mask[rows, columns]) != 0
            here = pieces.add(layer, part, columns.start, rows.start)
            edge = slice(max(0, columns.start - 1), columns.stop + 1)
            above = self._above[layer][edge]
            first = np.zeros(len(above), np.int64)
            first[columns.start - edge.start :][: here.shape[1]] = here[0]
            _connect_edges(pieces, above, first)
            left = self._beside[layer]
            if left is not None:
                _connect_edges(pieces, left, here[:, 0])
            if out:
                pieces.connect(out[-1], here, pieces.across)
            self._last[layer][columns], self._beside[layer] = here[-1], here[:, -1]
            out.append(here)
        return out

    def net_of_piece(self) -> np.ndarray:
        """Return the net of each piece, `[N + 1]`: a number from 1; that of ground is 0."""
        nets = self._pieces.components(self._pieces.within, self._pieces.across)
        return np.concatenate([[0], nets + 1])

    def region_of_piece(self) -> np.ndarray:
        """Return the region of each piece, `[N + 1]`: a number from 1; that of ground is 0."""
        return np.concatenate([[0], self._pieces.components(self._pieces.within) + 1])

    def piece_table(self) -> np.ndarray:
        """Return layer, left, top, right, bottom and pixels of each piece, `[N, 6]`."""
        return np.concatenate([np.empty((0, 8), np.int64), *self._pieces.tables])[:, :6]

    def regions(self) -> StackRegions:
        """Return the regions and their nets."""
        return _regions(self._pieces)


def find_nets(masks: Sequence[Mask], block: int = BLOCK) -> StackRegions:
    """Find the regions of masks, block by block, and the nets that they form.

    Args:
      masks: `[H, W]` of one size, from the lowest to the highest: metal, via, metal, and so on.
      block: side in pixels of the parts that are read. The result does not depend on it.
    """
    labels = StackLabels(masks)
    for rows, columns in blocks(masks[0].shape, block):
        labels.label(rows, columns)
    return labels.regions()


def _regions(pieces: _Pieces) -> StackRegions:
    """Join the pieces of each region."""
    table = np.concatenate([np.empty((0, 8), np.int64), *pieces.tables])
    region = pieces.components(pieces.within)
    net = pieces.components(pieces.within, pieces.across)
    order = np.lexsort((table[:, 6], table[:, 7], region))  # topmost, then leftmost pixel first
    table, region, net = table[order], region[order], net[order]
    starts = np.flatnonzero(np.diff(region, prepend=-1))
    if not len(starts):
        return StackRegions(*(np.empty((0, *shape), int) for shape in ((), (4,), (), (2,), ())))
    low = np.minimum.reduceat(table[:, 1:3], starts)
    high = np.maximum.reduceat(table[:, 3:5], starts)
    layer, points = table[starts, 0], table[starts, 6:8]
    rank = np.lexsort((points[:, 0], points[:, 1], layer))  # by layer, then as one reads
    _, first, nets = np.unique(net[starts][rank], return_index=True, return_inverse=True)
    by_place = np.empty(len(first), int)
    by_place[np.argsort(first)] = np.arange(len(first))
    return StackRegions(
        layer=layer[rank],
        boxes=np.concatenate([low, high], 1)[rank],
        pixels=np.add.reduceat(table[:, 5], starts)[rank],
        points=points[rank],
        nets=by_place[nets],
    )
