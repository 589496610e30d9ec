"""Electrical differences between the nets of two stacks of masks."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eal_icnet_jax.evaluation.electrical import (
    ElectricalDifferences,
    Fault,
    Matching,
    Regions,
    distinct_pairs,
    find_faults,
    reaches_inside,
)
from eal_icnet_jax.imaging.mosaics import blocks
from eal_icnet_jax.imaging.stack_regions import BLOCK, Mask, StackLabels


class LayerFault(NamedTuple):
    """The place of a difference. `layer` is the index of the mask in the stack."""

    layer: int
    fault: Fault


@dataclasses.dataclass(frozen=True)
class NetDifferences:
    """Differences between the nets of two stacks.

    Attributes:
      counts: their numbers.
      faults: the places of opens and shorts: missing and added metal that cuts or joins nets within
        its layer, and missing and added vias that do so between two. Several places may make one
        open or short, as where two vias in parallel are missing.
    """

    counts: ElectricalDifferences
    faults: tuple[LayerFault, ...]


class _Pairs:
    """Pairs of pieces of two stacks that share a pixel, collected block by block."""

    def __init__(self):
        self._found = [np.empty((0, 2), np.int64)]

    def add(self, a: np.ndarray, b: np.ndarray):
        both = (a > 0) & (b > 0)
        if both.any():
            self._found.append(distinct_pairs(a[both], b[both]))

    def all(self) -> np.ndarray:
        return np.concatenate(self._found)


def compare_stacks(
    label: Sequence[Mask],
    prediction: Sequence[Mask],
    min_wire_area: float,
    border: int | None,
    block: int = BLOCK,
) -> NetDifferences:
    """Compare the nets of two stacks; see `metrics.net_differences`.

    They are read in parts of `block` pixels a side. The places of metal are found with a layer in
    memory at a time.
    """
    shape, layers = label[0].shape, len(label)
    stacks = StackLabels(label), StackLabels(prediction)
    touching = _Pairs()
    # Of each stack's via layers: its pieces with the other's vias, metal below and metal above.
    around = [[(_Pairs(), _Pairs(), _Pairs()) for _ in range(layers // 2)] for _ in stacks]
    for rows, columns in blocks(shape, block):
        found = [stack.label(rows, columns) for stack in stacks]
        for layer in range(0, layers, 2):
            touching.add(found[1][layer], found[0][layer])
        for k in range(layers // 2):
            via = 2 * k + 1
            for mine, other, pairs in ((found[0], found[1], around[0]),
                                       (found[1], found[0], around[1])):  # fmt: skip
                for step, collected in zip((0, -1, 1), pairs[k], strict=True):
                    collected.add(mine[via], other[via + step])
    nets = _Nets.of(stacks[0], shape, 0, border)
    wires = _Nets.of(stacks[1], shape, min_wire_area, border)
    pairs = touching.all()
    pairs = np.stack([wires.of_piece[pairs[:, 0]], nets.of_piece[pairs[:, 1]]], 1)
    pairs = pairs[wires.counted[pairs[:, 0]] & nets.counted[pairs[:, 1]]]
    matching = Matching(nets.counted, wires.counted, distinct_pairs(*pairs.T))
    faults = _metal_faults(label, prediction, min_wire_area, border)
    for k in range(layers // 2):
        faults += _via_faults("opens", 2 * k + 1, nets, wires, around[0][k])
        faults += _via_faults("shorts", 2 * k + 1, wires, nets, around[1][k])
    return NetDifferences(matching.differences(), tuple(faults))


@dataclasses.dataclass(frozen=True)
class _Nets:
    """The nets of a stack.

    of_piece: net of each piece, from 1; 0 is ground.
    counted: whether each net counts.
    table: of `StackLabels`, of the pieces from 1 up.
    region_of_piece: region of each piece in its mask, from 1; 0 is ground.
    """

    of_piece: np.ndarray
    counted: np.ndarray
    table: np.ndarray
    region_of_piece: np.ndarray

    @classmethod
    def of(cls, stack: StackLabels, shape, min_area: float, border: int | None) -> "_Nets":
        of_piece, table = stack.net_of_piece(), stack.piece_table()
        count = int(of_piece.max(initial=0)) + 1
        is_metal = table[:, 0] % 2 == 0
        metal = of_piece[1:][is_metal]
        pixels = np.bincount(metal, table[is_metal, 5], minlength=count)
        low = np.full((count, 2), np.iinfo(np.int64).max)
        high = np.full((count, 2), -1)
        np.minimum.at(low, metal, table[is_metal, 1:3])
        np.maximum.at(high, metal, table[is_metal, 3:5])
        counted = (pixels >= max(min_area, 1)) & reaches_inside(low, high, shape[::-1], border)
        counted[0] = False
        return cls(of_piece, counted, table, stack.region_of_piece())


def _metal_faults(label, prediction, min_wire_area, border) -> list[LayerFault]:
    """Return the places of opens and shorts within each layer of metal."""
    out = []
    for layer in range(0, len(label), 2):
        nets, wires = (
            Regions.of_mask(np.asarray(masks[layer][:, :]) != 0, area, border)
            for masks, area in ((label, 0), (prediction, min_wire_area))
        )
        out += [
            LayerFault(layer, fault)
            for fault in find_faults(nets, wires)
            if fault.kind in ("opens", "shorts")
        ]
    return out


def _via_faults(
    kind: str, layer: int, mine: _Nets, other: _Nets, around: tuple[_Pairs, _Pairs, _Pairs]
) -> list[LayerFault]:
    """Return the places of vias that only one stack has, and that connect nets of the other.

    Args:
      kind: "opens" for vias of the label, "shorts" for those of the prediction.
      layer: index of the vias' mask.
      mine: nets of the stack with the vias.
      other: nets of the other stack.
      around: pairs of the vias' pieces with the other's vias, metal below and metal above.
    """
    pieces = np.flatnonzero(mine.table[:, 0] == layer)
    region = mine.region_of_piece[pieces + 1]
    kept = np.unique(mine.region_of_piece[around[0].all()[:, 0]])
    ends = []
    for pairs in around[1:]:
        by_region: dict[int, set[int]] = {}
        for piece, metal in pairs.all():
            net = int(other.of_piece[metal])
            if other.counted[net]:
                by_region.setdefault(int(mine.region_of_piece[piece]), set()).add(net)
        ends.append(by_region)
    out = []
    for number in np.setdiff1d(region, kept):
        below, above = (by_region.get(int(number), set()) for by_region in ends)
        if below and above and not below & above:
            boxes = mine.table[pieces[region == number]]
            left, top = boxes[:, 1:3].min(0)
            right, bottom = boxes[:, 3:5].max(0)
            out.append(LayerFault(layer, Fault(kind, *map(int, (left, top, right, bottom)))))
    return out
