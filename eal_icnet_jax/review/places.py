"""Places of a prediction that decide which wires are connected, and that may be wrong.

A mask is a threshold of probabilities. Where another threshold that the network's calibration
allows would join two wires, cut one, or make one appear or vanish, a person should look. The chance
that the mask is wrong there follows from the probability at which that happens.
"""

import dataclasses
import heapq
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import KDTree

from eal_icnet_jax.evaluation.calibration import Calibration
from eal_icnet_jax.evaluation.electrical import MIN_WIRE_AREA
from eal_icnet_jax.imaging.mosaics import slices_of
from eal_icnet_jax.imaging.regions import connected_regions

BLOCK, MARGIN = 2048, 256
"""Side of the blocks in which places are searched, and of what is seen around them, in pixels."""

MIN_VIA_AREA = 4
"""Smallest area of a via in pixels."""

KINDS = {
    "open": "two wires of the mask may be one",
    "short": "one wire of the mask may be two",
    "missed": "the mask may lack a wire or via",
    "invented": "a wire or via of the mask may not exist",
}
"""Each kind of place by the error that the mask may have there."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A place of a mask that may be wrong.

    Attributes:
      kind: of `KINDS`.
      output: of the network, such as "metal".
      x: column of the pixel that decides.
      y: row of it.
      probability: of foreground at that pixel: the threshold at which the mask changes.
      chance: that the mask is wrong, by the network's calibration.
      uncertainty: at the pixel, in [0, 1].
    """

    kind: str
    output: str
    x: int
    y: int
    probability: float
    chance: float
    uncertainty: float = 0.0

    @property
    def about(self) -> str:
        """What may be wrong, in words."""
        return KINDS[self.kind]


def _regions_above(p: np.ndarray, threshold: float, min_area: float) -> np.ndarray:
    """Return the number of the region of each pixel, 0 outside and in regions below an area."""
    regions, statistics = connected_regions(p >= threshold)
    large = statistics[:, cv2.CC_STAT_AREA] >= min_area
    large[0] = False
    numbers = np.where(large, np.cumsum(large), 0)
    return numbers[regions]


def _passes(p: np.ndarray, seeds: np.ndarray, lowest: float) -> list[tuple[float, int, int]]:
    """Return where regions join when the threshold falls.

    Args:
      p: probabilities `[H, W]`.
      seeds: number of the region of each pixel `[H, W]`, 0 for none.
      lowest: threshold at which the search ends.

    Returns:
      The threshold, row and column of each pixel that joins two groups of regions, from the highest
      threshold to the lowest. Of two regions that have joined, only the first place is among them.
    """
    part = _connecting_part(p >= lowest, seeds)
    if not part.any():
        return []
    loose, seed_count = part & (seeds == 0), int(seeds.max())
    count = seed_count + 1 + np.count_nonzero(loose)
    nodes = seeds.astype(np.int64)
    nodes[loose] = np.arange(seed_count + 1, count)
    edges = _edges(p, part, nodes, seed_count)
    # Of the paths between two regions, a maximum spanning tree keeps the one of highest passes.
    costs = coo_array((2 - edges.value, (edges.a, edges.b)), shape=(count, count))
    tree = minimum_spanning_tree(costs.tocsr()).tocoo()
    keys = tree.row.astype(np.int64) * count + tree.col
    kept = np.searchsorted(edges.a * count + edges.b, np.sort(keys))
    kept = kept[_leads_to_seeds(edges.a[kept], edges.b[kept], count, seed_count)]
    kept = kept[np.argsort(-edges.value[kept], kind="stable")]
    pixels = edges.pixel[kept[_joins(edges.a[kept], edges.b[kept], count, seed_count)]]
    return [(float(p.flat[k]), *map(int, np.unravel_index(k, p.shape))) for k in pixels]


class _Edges(NamedTuple):
    """Pairs of neighbouring nodes a < b, each once and in order, and their least probability.

    pixel: that has it, of the pixels where the two touch the one where it is highest.
    """

    a: np.ndarray
    b: np.ndarray
    value: np.ndarray
    pixel: np.ndarray


def _connecting_part(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the regions of a mask, `[H, W]` bool, that hold several seeds."""
    regions, _ = connected_regions(mask | (seeds > 0))
    region_of = np.zeros(int(seeds.max()) + 1, regions.dtype)
    region_of[seeds] = regions  # a seed lies in one region
    numbers = np.bincount(region_of[1:], minlength=int(regions.max()) + 1)
    numbers[0] = 0  # of numbers without a seed
    return (numbers >= 2)[regions]


def _edges(p: np.ndarray, part: np.ndarray, nodes: np.ndarray, seeds: int) -> _Edges:
    """Return the edges between 8-neighbours of a part of an image.

    Args:
      p: probabilities `[H, W]`.
      part: `[H, W]` bool.
      nodes: number of the node of each pixel of the part, `[H, W]`.
      seeds: number of seeds, which are the nodes from 1 up; each other node is one pixel.
    """
    height, width = p.shape
    pixels = np.arange(p.size).reshape(p.shape)
    found = []
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        one = np.s_[: height - dy, max(0, -dx) : width - max(0, dx)]
        other = np.s_[dy:, max(0, dx) : width + min(0, dx)]
        near = part[one] & part[other] & (nodes[one] != nodes[other])
        ends = nodes[one][near], nodes[other][near]
        values = p[one][near], p[other][near]
        pixel = np.where(values[0] <= values[1], pixels[one][near], pixels[other][near])
        found.append((np.minimum(*ends), np.maximum(*ends), np.minimum(*values), pixel))
    a, b, value, pixel = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    # Only seeds have several pixels, so that the same pair of nodes can occur again.
    with_seed = np.flatnonzero(a <= seeds)
    with_seed = with_seed[np.argsort(-value[with_seed], kind="stable")]
    order = np.concatenate([with_seed, np.flatnonzero(a > seeds)])
    keys = a[order] * (int(nodes.max()) + 1) + b[order]
    by_key = np.argsort(keys, kind="stable")
    order, keys = order[by_key], keys[by_key]
    order = order[np.append(True, keys[1:] != keys[:-1])]
    return _Edges(a[order], b[order], value[order].astype(np.float64), pixel[order])


def _leads_to_seeds(a: np.ndarray, b: np.ndarray, count: int, seeds: int) -> np.ndarray:
    """Return which edges of a forest lie on a way between seeds; the others are dead ends.

    Arguments as in `_joins`, in any order.
    """
    left = np.arange(len(a))
    degrees = np.bincount(a, minlength=count) + np.bincount(b, minlength=count)
    is_loose = np.ones(count, bool)
    is_loose[1 : seeds + 1] = False
    while True:
        is_end = is_loose & (degrees == 1)
        is_dropped = is_end[a[left]] | is_end[b[left]]
        dropped, left = left[is_dropped], left[~is_dropped]
        if not len(dropped):
            return left
        np.subtract.at(degrees, np.concatenate([a[dropped], b[dropped]]), 1)


def _joins(a: np.ndarray, b: np.ndarray, count: int, seeds: int) -> list[int]:
    """Return which edges of a tree join two groups of nodes that both hold a seed.

    Args:
      a: one node of each edge, in the order in which they are joined.
      b: the other one.
      count: number of nodes.
      seeds: number of seeds, which are the nodes from 1 up.
    """
    parents, has_seed = list(range(count)), [1 <= node <= seeds for node in range(count)]

    def root_of(node: int) -> int:
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    joins = []
    for number, (first, second) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        first, second = root_of(first), root_of(second)
        if has_seed[first] and has_seed[second]:
            joins.append(number)
        parents[second] = first
        has_seed[first] |= has_seed[second]
    return joins


def _peaks(p: np.ndarray, regions: np.ndarray, chosen: np.ndarray) -> list[tuple[float, int, int]]:
    """Return the highest probability of each chosen region, and its row and column."""
    numbers = np.flatnonzero(chosen)
    if not len(numbers):
        return []
    y, x = np.nonzero(chosen[regions])
    highest = ndimage.maximum_position(p[y, x], regions[y, x], numbers)
    return [(float(p[y[k], x[k]]), int(y[k]), int(x[k])) for (k,) in highest]


def _touched(regions: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return which regions have a pixel of a mask, `[N]` bool."""
    touched = np.zeros(int(regions.max()) + 1, bool)
    touched[np.unique(regions[mask])] = True
    return touched


def find_places(
    p: np.ndarray,
    output: str,
    calibration: Calibration,
    threshold: float = 0.5,
    is_via: bool = False,
) -> list[Place]:
    """Return the places of one output of an image that fits into memory, the likeliest first.

    Args:
      p: probabilities `[H, W]` in [0, 1].
      output: its name.
      calibration: says which thresholds are plausible, and how likely a pixel is foreground.
      threshold: of the mask.
      is_via: whether only whole regions count, because vias are no wires.
    """
    low, high = calibration.plausible_thresholds(threshold)
    min_area = MIN_VIA_AREA if is_via else MIN_WIRE_AREA
    mask = _regions_above(p, threshold, min_area)
    candidates = {
        "missed": _unlike(p, _regions_above(p, low, min_area), p >= threshold),
        "invented": _unlike(p, mask, p >= high),
    }
    if not is_via:
        cores = np.where(mask > 0, _regions_above(p, high, min_area), 0)
        candidates["open"] = [pass_ for pass_ in _passes(p, mask, low) if pass_[0] < threshold]
        candidates["short"] = [
            pass_ for pass_ in _passes(p, cores, threshold) if threshold <= pass_[0] < high
        ]
    places = []
    for kind, found in candidates.items():
        for value, y, x in found:
            is_metal = calibration.chance_of_foreground(value)
            chance = is_metal if kind in ("open", "missed") else 1 - is_metal
            places.append(Place(kind, output, x, y, value, chance))
    return sorted(places, key=_rank)


def _unlike(p: np.ndarray, regions: np.ndarray, mask: np.ndarray) -> list[tuple[float, int, int]]:
    """Return the peaks of the regions that do not touch a mask."""
    lonely = ~_touched(regions, mask)
    lonely[0] = False
    return _peaks(p, regions, lonely)


def _rank(place: Place) -> tuple:
    return -place.chance, place.kind, place.y, place.x


def find_places_in_blocks(
    p, shape: tuple[int, int], output: str, calibration: Calibration, threshold: float, is_via: bool
) -> Iterator[Place]:
    """Yield the places of one output of an image of any size.

    Nets are followed within a block and its margin, so that wires which only join outside of it
    count as two.

    Args:
      p: probabilities in [0, 1]; indexing it with slices, `p[rows, columns]`, reads that part.
      shape: height and width.
      output: see `find_places`.
      calibration: likewise.
      threshold: likewise.
      is_via: likewise.
    """
    height, width = shape
    for rows in slices_of(height, BLOCK):
        for columns in slices_of(width, BLOCK):
            top, left = max(0, rows.start - MARGIN), max(0, columns.start - MARGIN)
            part = p[
                slice(top, min(height, rows.stop + MARGIN)),
                slice(left, min(width, columns.stop + MARGIN)),
            ]
            for place in find_places(part, output, calibration, threshold, is_via):
                y, x = place.y + top, place.x + left
                if rows.start <= y < rows.stop and columns.start <= x < columns.stop:
                    yield dataclasses.replace(place, x=x, y=y)


@dataclasses.dataclass(frozen=True)
class Square:
    """A square of an image that a person should look at.

    Attributes:
      rows: of the image.
      columns: of it.
      places: in the square, the likeliest first.
    """

    rows: slice
    columns: slice
    places: tuple[Place, ...]

    @property
    def expected_errors(self) -> float:
        """The sum of the chances that the mask is wrong at its places."""
        return sum(place.chance for place in self.places)


def square_around(x: int, y: int, side: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of the square around a pixel, moved into the image."""

    def part(centre: int, length: int) -> slice:
        start = min(max(0, centre - side // 2), max(0, length - side))
        return slice(start, min(start + side, length))

    return part(y, shape[0]), part(x, shape[1])


def worst_squares(
    places: list[Place], shape: tuple[int, int], side: int, count: int
) -> list[Square]:
    """Return the squares with the most errors to expect, the worst first.

    Each is the square around one of the places in which the chances add up to most, without the
    places of the squares before it.

    Args:
      places: of all outputs.
      shape: height and width of the image.
      side: of a square in pixels.
      count: largest number of squares.
    """
    if not places:
        return []
    places = sorted(places, key=_rank)
    chances = np.array([place.chance for place in places])
    positions = np.array([(place.y, place.x) for place in places])
    tree = KDTree(positions)

    def inside(k: int) -> tuple[slice, slice, np.ndarray]:
        rows, columns = square_around(places[k].x, places[k].y, side, shape)
        near = np.array(tree.query_ball_point(positions[k], side, p=np.inf))
        y, x = positions[near].T
        is_inside = (y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)
        return rows, columns, near[is_inside & (chances[near] > 0)]

    # The sum of a square only falls while others are chosen, so an old sum is an upper bound.
    bounds = [(-float(chances[inside(k)[2]].sum()), k) for k in range(len(places))]
    heapq.heapify(bounds)
    squares: list[Square] = []
    while bounds and len(squares) < count:
        _, k = heapq.heappop(bounds)
        rows, columns, members = inside(k)
        total = float(chances[members].sum())
        if total <= 0:
            continue
        if bounds and total < -bounds[0][0]:
            heapq.heappush(bounds, (-total, k))
            continue
        squares.append(Square(rows, columns, tuple(places[member] for member in sorted(members))))
        chances[members] = 0
    return squares
