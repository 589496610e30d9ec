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
from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from eal_icnet_jax.imaging.placed_mosaic import grid_positions
from eal_icnet_jax.imaging.tile_positions import PlacedTile
from eal_icnet_jax.imaging.tiled_mosaic import read_tile, tile_pixels
from eal_icnet_jax.system.errors import UserError

Grid = dict[tuple[int, int], pathlib.Path]
"""Files of tiles by row and column."""

SMALLEST_FIT = 0.3
"""Smallest correlation of a pair that is used."""

CLEAR_LEAD = 0.05
"""By how much a shift must fit better than others to be sure."""

SMALLEST_SIDE = 16
"""Smallest side in pixels of the part of a tile that is looked for in its neighbour."""

TOLERANCE = 1.0
"""Deviation of a pair in pixels from which on it counts less."""

ROUNDS = 30
"""Number of times that the places are computed with new weights of the pairs."""


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
      unsure: number of neighbours that do not fit each other, or contradict the others.
      deviation: median distance in pixels by which the other pairs contradict each other.
    """

    tiles: tuple[PlacedTile, ...]
    pairs: int
    unsure: int
    deviation: float


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
    shape = read_tile(expected[0].path).shape
    reach = max(2, round(search * min(shape)))
    if min(overlap * length for length in shape) - reach < SMALLEST_SIDE:
        raise UserError(
            f"neighbours share {overlap * min(shape):.0f} pixels, too few to search for shifts of "
            f"{reach} pixels: name a smaller --search"
        )
    columns = len({column for _, column in places})
    pixels = functools.lru_cache(columns + 2)(functools.partial(_grey, shape))
    pairs, count = [], 0
    for row, column in places:
        for other in ((row, column - 1), (row - 1, column)):
            if other in number:
                count += 1
                first, second = number[other], number[row, column]
                step = np.subtract(expected[second][1:], expected[first][1:])
                images = pixels(expected[first].path), pixels(expected[second].path)
                found = _shift(*images, np.rint(step).astype(int), reach)
                if found is not None:
                    pairs.append(_Pair(first, second, *found))
    if count and not pairs:
        raise UserError(
            f"no two neighbours fit with an overlap of {100 * overlap:g}%: check --tile-overlap, "
            "and which number of the names is the row"
        )
    nominal = np.array([tile[1:] for tile in expected])
    found, deviations = _solve(nominal, pairs, reach)
    fitting = deviations <= 3 * TOLERANCE
    return Stitching(
        tuple(PlacedTile(tile.path, *map(float, place))
              for tile, place in zip(expected, found, strict=True)),
        count,
        count - int(fitting.sum()),
        float(np.median(deviations[fitting])) if fitting.any() else 0.0,
    )  # fmt: skip


def _grey(shape: tuple[int, int], path: pathlib.Path) -> np.ndarray:
    """Return the brightness of a tile, `[H, W]` float32."""
    pixels = tile_pixels(path)
    if pixels.shape[:2] != shape:
        sizes = ["x".join(map(str, size)) for size in (pixels.shape[:2], shape)]
        raise UserError(f"{path} has {sizes[0]} pixels (height x width), and the first {sizes[1]}")
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
    template = second[top:bottom, left:right]
    window = first[top + y - reach : bottom + y + reach, left + x - reach : right + x + reach]
    if min(template.shape) < SMALLEST_SIDE or template.std() < 1 or window.std() < 1:
        return None
    fit = np.nan_to_num(cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED))
    _, best, _, (column, row) = cv2.minMaxLoc(fit)
    inside = 0 < column < 2 * reach and 0 < row < 2 * reach
    if best < SMALLEST_FIT or not inside:
        return None
    near = fit[row - 1 : row + 2, column - 1 : column + 2].astype(float)
    slope = np.array([near[1, 2] - near[1, 0], near[2, 1] - near[0, 1]]) / 2
    cross = (near[2, 2] + near[0, 0] - near[0, 2] - near[2, 0]) / 4
    bend = np.array([[2 * near[1, 1] - near[1, 0] - near[1, 2], -cross],
                     [-cross, 2 * near[1, 1] - near[0, 1] - near[2, 1]]])  # fmt: skip
    values, axes = np.linalg.eigh(bend)
    values = np.maximum(values, 1e-9)
    refined = np.clip(axes @ ((axes.T @ slope) / values), -0.5, 0.5)
    # A second place that fits nearly as well makes the first one doubtful, unless it lies on the
    # same ridge: along it, the shift is unknown anyway.
    _, ridges = cv2.connectedComponents((fit > best - CLEAR_LEAD).astype(np.uint8))
    ridge = (ridges == ridges[row, column]).astype(np.uint8)
    others = fit[cv2.dilate(ridge, np.ones((7, 7), np.uint8)) == 0]
    clear = np.clip((best - others.max()) / CLEAR_LEAD, 0.01, 1) if others.size else 1.0
    information = clear * (axes * values) @ axes.T / (1 - min(best, 0.99))
    return np.array([x + column - reach, y + row - reach]) + refined, information


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
    shift = np.array([pair.shift for pair in pairs])
    information = np.array([pair.information for pair in pairs])
    prior = 1e-3 * np.median(np.trace(information, axis1=1, axis2=2)) / reach**2
    weight, places = np.ones(len(pairs)), nominal
    deviations = np.zeros(len(pairs))
    for _ in range(ROUNDS):
        matrix, right = _normal_equations(
            count, first, second, shift, weight[:, None, None] * information
        )
        diagonal = coo_array(
            (np.full(2 * count, prior), (np.arange(2 * count), np.arange(2 * count)))
        )
        solved = spsolve((matrix + diagonal).tocsc(), right + prior * nominal.ravel())
        places = solved.reshape(count, 2)
        difference = places[second] - places[first] - shift
        # Along a direction about which a pair says nothing it contradicts nothing.
        sure = (
            information / np.maximum(np.linalg.eigvalsh(information)[:, -1], 1e-12)[:, None, None]
        )
        deviations = np.sqrt(np.einsum("ni,nij,nj->n", difference, sure, difference).clip(0))
        new = 1 / (1 + (deviations / TOLERANCE) ** 2) ** 2
        if np.abs(new - weight).max() < 1e-4:
            break
        weight = new
    return places, deviations


def _normal_equations(
    count: int, first: np.ndarray, second: np.ndarray, shift: np.ndarray, information: np.ndarray
) -> tuple[coo_array, np.ndarray]:
    """Return matrix `[2 N, 2 N]` and right side of the least squares of all pairs."""
    rows, columns, values = [], [], []
    right = np.zeros((count, 2))
    force = np.einsum("nij,nj->ni", information, shift)
    np.add.at(right, second, force)
    np.add.at(right, first, -force)
    for a, b, sign in ((first, first, 1), (second, second, 1), (first, second, -1),
                       (second, first, -1)):  # fmt: skip
        for i in range(2):
            for j in range(2):
                rows.append(2 * a + i)
                columns.append(2 * b + j)
                values.append(sign * information[:, i, j])
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return coo_array(entries, shape=(2 * count, 2 * count)), right.ravel()
