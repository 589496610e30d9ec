"""Places of overlapping tiles, found by correlating the parts that neighbours share.

Each pair of neighbours gives a shift and how sure it is in each direction, since lines say nothing
about shifts along them. The places of all tiles are those that fit all pairs best, where pairs that
contradict the others count little. m2stitch and ASHLAR join tiles along a spanning tree instead: of
drawn electron photographs, m2stitch 0.7.2 placed 93% and 96% of the tiles to within a pixel, and
this all of them (`python benchmarks/stitching.py`, two seeds).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, eye_array, kron
from scipy.sparse.csgraph import connected_components

from eal_icnet_jax.imaging import matching
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.placed_mosaic import check_apart, check_kind, grid_positions
from eal_icnet_jax.imaging.tile_positions import PlacedTile
from eal_icnet_jax.imaging.tiled_mosaic import read_tile
from eal_icnet_jax.system.errors import UserError

Grid = dict[tuple[int, int], pathlib.Path]
"""Files of tiles by row and column."""

SMALLEST_FIT = 0.3
"""Smallest correlation of a pair that is used."""

FLAT = 1 / 256
"""Standard deviation of the levels of a part that shows nothing, relative to the largest level; at
most one level."""

BESIDE = 0.6
"""Part of a side that two tiles share at least if they lie beside each other."""

SMALLEST_SIDE = 16
"""Smallest side in pixels of the part of a tile that is looked for in its neighbour."""


class _Pair(NamedTuple):
    """How two neighbours lie.

    first, second: index of each tile.
    shift: (x, y) of the second one's corner from the first one's, in pixels.
    information: how sure that is, `[2, 2]`, in units of 1 / pixel^2.
    """

    first: int
    second: int
    shift: np.ndarray
    information: np.ndarray


@dataclasses.dataclass(frozen=True)
class Stitching:
    """Places of tiles.

    Attributes:
      tiles: row by row.
      pairs: number of neighbours.
      fitting: number of neighbours that fit each other, and the other such pairs.
      deviation: median distance in pixels by which those contradict each other.
      unplaced: tiles that no chain of fitting pairs joins to most of the others. They lie where
        they were expected.
      hint: what is wrong if many pairs do not fit.
    """

    tiles: tuple[PlacedTile, ...]
    pairs: int
    fitting: int
    deviation: float
    unplaced: tuple[pathlib.Path, ...]
    hint: str


def stitch(grid: Grid, overlap: float, search: float) -> Stitching:
    """Find the places of tiles.

    Args:
      grid: the tiles, all of one size; some may be missing.
      overlap: part of a tile's side that neighbours are expected to share, in (0, 0.5].
      search: largest difference of two neighbours from that, as part of a tile's side.

    Raises:
      UserError: a tile cannot be read or has another size, or no pair fits.
    """
    expected = grid_positions(grid, overlap)
    places = sorted(grid)
    number = {place: k for k, place in enumerate(places)}
    first = read_tile(expected[0].path)
    shape = first.shape
    reach = max(2, round(search * min(shape)))
    if min(overlap * length for length in shape) - reach < SMALLEST_SIDE:
        raise UserError(
            f"neighbours share {overlap * min(shape):.0f} pixels by --tile-overlap="
            f"{100 * overlap:g} (percent), too few to search for shifts of {reach} pixels: name a "
            "smaller --search, or a larger overlap if it is larger"
        )
    neighbours = [
        (number[other], number[row, column])
        for row, column in places
        for other in ((row, column - 1), (row - 1, column))
        if other in number
    ]
    hint = (
        f"check whether they share {100 * overlap:g}% (--tile-overlap), and which number of the "
        "names is the row"
    )
    return _stitched(expected, neighbours, first, reach, hint)


def refine(placed: Sequence[PlacedTile], search: float) -> Stitching:
    """Find the places of tiles that are known roughly, such as from the stage.

    Args:
      placed: the tiles, all of one size.
      search: largest difference of two neighbours from that, as part of a tile's side.

    Raises:
      UserError: a tile cannot be read or has another size, or no pair fits.
    """
    expected = sorted(placed, key=lambda tile: (tile.y, tile.x))
    first = read_tile(expected[0].path)
    shape = first.shape
    corners = np.array([tile[1:] for tile in expected])
    reach = max(2, round(search * min(shape)))
    size = np.array(shape[::-1])
    check_apart(corners, size, "at these positions")
    neighbours, narrow = [], 0
    for k in range(len(expected)):
        start = int(np.searchsorted(corners[:, 1], corners[k, 1] - shape[0]))
        sides = size - np.abs(corners[start:k] - corners[k])
        # Tiles beside each other share most of a side; those at a corner share little.
        beside = (sides > 0).all(1) & (sides > BESIDE * size).any(1)
        wide = beside & (sides - reach >= SMALLEST_SIDE).all(1)
        narrow += int((beside & ~wide).sum())
        neighbours += [(start + int(j), k) for j in np.flatnonzero(wide)]
    if len(expected) > 1 and not neighbours:
        raise UserError(
            f"neighbours share too little to search for shifts of {reach} pixels: name a smaller "
            "--search"
            if narrow
            else "no two tiles overlap at these positions: check their unit and direction"
        )
    hint = "check the unit and the direction of the positions, or name a larger --search"
    return _stitched(expected, neighbours, first, reach, hint)


def _stitched(
    expected: Sequence[PlacedTile],
    neighbours: Sequence[tuple[int, int]],
    first_tile: Mosaic,
    reach: int,
    hint: str,
) -> Stitching:
    """Return the places of tiles from pairs of neighbours.

    Args:
      expected: the tiles where they should lie, row by row.
      neighbours: the indices of each pair, the second ones ascending.
      first_tile: whose size and kind all have.
      reach: largest difference from the expected places in pixels.
      hint: what is wrong if many pairs do not fit.
    """
    memory = max((second - first for first, second in neighbours), default=0) + 2
    pixels = functools.lru_cache(memory)(functools.partial(_grey, first_tile))
    pairs = []
    for first, second in neighbours:
        step = np.subtract(expected[second][1:], expected[first][1:])
        images = pixels(expected[first].path), pixels(expected[second].path)
        found = _shift(*images, np.rint(step).astype(int), reach)
        if found is not None:
            pairs.append(_Pair(first, second, *found))
    if neighbours and not pairs:
        raise UserError(f"no two neighbours fit: {hint}")
    nominal = np.array([tile[1:] for tile in expected])
    places, deviations = _solve(nominal, pairs, reach)
    fitting = deviations <= 3 * matching.TOLERANCE
    joined = np.array([pair[:2] for pair in pairs], int).reshape(-1, 2)[fitting]
    links = coo_array((np.ones(len(joined)), tuple(joined.T)), shape=(len(expected),) * 2)
    _, groups = connected_components(links, directed=False)
    most = np.argmax(np.bincount(groups))
    return Stitching(
        tuple(PlacedTile(tile.path, *map(float, place))
              for tile, place in zip(expected, places, strict=True)),
        len(neighbours),
        int(fitting.sum()),
        float(np.median(deviations[fitting])) if fitting.any() else 0.0,
        tuple(expected[k].path for k in np.flatnonzero(groups != most)),
        hint,
    )  # fmt: skip


def _grey(first: Mosaic, path: pathlib.Path) -> np.ndarray:
    """Return the brightness of a tile, `[H, W]` float32."""
    tile = read_tile(path)
    check_kind(tile, first)
    pixels = tile[slice(None), slice(None)]
    if pixels.shape[:2] != first.shape:
        sizes = ["x".join(map(str, size)) for size in (pixels.shape[:2], first.shape)]
        raise UserError(
            f"{path} has {sizes[0]} pixels (height x width), and the first {sizes[1]}: crop them "
            "to one size"
        )
    return pixels.mean(-1, dtype=np.float32) if pixels.ndim == 3 else pixels.astype(np.float32)


def _shift(
    first: np.ndarray, second: np.ndarray, step: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the shift of the second of two tiles and how sure it is, or None.

    Args:
      first, second: `[H, W]` float32.
      step: expected shift (x, y), whole pixels.
      reach: largest difference from it in pixels.
    """
    height, width = first.shape
    x, y = step
    # The part of the second tile that lies within the first one at every shift in reach.
    left, top = max(0, reach - x), max(0, reach - y)
    right, bottom = min(width, width - x - reach), min(height, height - y - reach)
    if min(right - left, bottom - top) < SMALLEST_SIDE:
        return None
    template = second[top:bottom, left:right]
    window = first[top + y - reach : bottom + y + reach, left + x - reach : right + x + reach]
    flat = min(1.0, FLAT * first.max())
    if min(template.shape) < SMALLEST_SIDE or min(template.std(), window.std()) < flat:
        return None
    found = matching.match(window, template, SMALLEST_FIT)
    return found and (np.array([x - reach, y - reach]) + found.shift, found.information)


def _solve(nominal: np.ndarray, pairs: list[_Pair], reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places `[N, 2]`, and by how many pixels each pair contradicts them.

    Args:
      nominal: expected places (x, y), `[N, 2]`.
      pairs: of neighbours.
      reach: typical distance of the places from the expected ones.
    """
    count = len(nominal)
    if not pairs:
        return nominal, np.empty(0)
    first, second = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    information = np.array([pair.information for pair in pairs])
    row = np.arange(len(pairs))
    ones = np.ones(len(pairs))
    differences = coo_array(
        (np.concatenate([ones, -ones]),
         (np.concatenate([row, row]), np.concatenate([second, first]))),
        shape=(len(pairs), count),
    )  # fmt: skip
    # The unknowns are the distances from the expected places, which a little weight keeps small.
    prior = 1e-3 * np.median(np.trace(information, axis1=1, axis2=2)) / reach**2
    moved = np.array([pair.shift for pair in pairs]) - (nominal[second] - nominal[first])
    unknowns, deviations = matching.fit_places(
        kron(differences, eye_array(2)).tocsr(), moved, information, prior * eye_array(2 * count)
    )
    return nominal + unknowns.reshape(count, 2), deviations
