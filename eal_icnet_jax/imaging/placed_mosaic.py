"""Overlapping tiles as one mosaic: blended over the overlap, their brightness evened."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eal_icnet_jax.imaging import tiled_mosaic
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.tile_positions import PlacedTile, read_positions
from eal_icnet_jax.imaging.tiled_mosaic import (
    find_tiles,
    missing_tiles,
    mosaic_of_tiles,
    read_tile,
    tile_pixels,
)
from eal_icnet_jax.system.errors import UserError

SMALLEST_OVERLAP = 8
"""Smallest side in pixels of an overlap by which the brightness of two tiles is compared."""

GAIN_RANGE = 0.5, 2.0
"""Smallest and largest factor by which the brightness of a tile is changed."""

VISIBLE_GAIN = 0.005
"""Smallest change of brightness, relative. If no tile needs more, none is changed."""

SMALLEST_COVER = 0.02
"""Smallest part of the mosaic that tiles cover. If it is less, the positions are no pixels."""

LARGEST_SHARE = 0.7
"""Largest part of its side by which a tile overlaps its nearest neighbour in each direction. If
most overlap by more, the positions are no pixels."""


class _Tile(NamedTuple):
    """A tile, its corner and its size in pixels."""

    path: pathlib.Path
    left: int
    top: int
    height: int
    width: int

    def overlap(self, other: "_Tile") -> tuple[int, int, int, int] | None:
        """Return left, top, right and bottom of what two tiles share, or None."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right = min(self.left + self.width, other.left + other.width)
        bottom = min(self.top + self.height, other.top + other.height)
        return (left, top, right, bottom) if right > left and bottom > top else None


def check_kind(tile: Mosaic, first: Mosaic):
    """Raise a `UserError` if a tile differs from the first one in depth or channels."""
    if tile.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{tile.path} has 1 bit per pixel: convert it to 8 or 16")
    channels = [image[:1, :1].shape[2:] for image in (tile, first)]
    if tile.dtype != first.dtype or channels[0] != channels[1]:
        kinds = [
            f"{image.dtype} {'RGB' if channel else 'grey'}"
            for image, channel in zip((tile, first), channels, strict=True)
        ]
        raise UserError(f"{tile.path} is {kinds[0]}, and {first.path} {kinds[1]}: convert one")


def check_apart(corners: np.ndarray, side: np.ndarray, where: str):
    """Raise a `UserError` if most tiles lie on one another, as positions in micrometres do.

    Args:
      corners: x and y of each tile in pixels, `[N, 2]`.
      side: width and height of a tile.
      where: what says where they lie.
    """
    if len(corners) < 2:
        return
    from scipy.spatial import KDTree

    distances, _ = KDTree(corners / side).query(corners / side, k=2, p=np.inf)
    share = float(1 - np.median(distances[:, 1]))
    if share > LARGEST_SHARE:
        raise UserError(
            f"{where}, most tiles share {100 * share:.0f}% of their sides with another one: "
            "positions must be in pixels"
        )


def open_positions(path: pathlib.Path) -> Mosaic:
    """Open the tiles that a file of positions names as one image; see `open_placed_tiles`."""
    return open_placed_tiles(path, read_positions(path))


def open_placed_tiles(path: pathlib.Path, placed: Sequence[PlacedTile]) -> Mosaic:
    """Open tiles at any places as one image.

    Places are rounded to pixels. Where tiles overlap, each counts the more the farther its edge is,
    and differences of brightness between them are evened by a factor for each. Where no tile lies
    the image is black.

    Args:
      path: of the file or folder that says where they lie.
      placed: the tiles.

    Raises:
      UserError: a tile cannot be read, they differ in depth or channels, or the places are so far
        apart that they cannot be pixels.
    """
    tiles = _PlacedTiles(path, placed)
    files = tuple(tile.path for tile in tiles.tiles)
    return mosaic_of_tiles(path, tiles.first, tiles.shape, tiles.read, tiles.notes(), files)


class _PlacedTiles:
    """Overlapping tiles as one image.

    Attributes:
      first: the first tile, as its file holds it.
      tiles: from top to bottom, then from left to right.
      shape: height and width of the whole image.
    """

    def __init__(self, path: pathlib.Path, placed: Sequence[PlacedTile]):
        self._path = path
        self.first = read_tile(placed[0].path)
        left, top = (min(values) for values in list(zip(*placed, strict=True))[1:])
        tiles = []
        for tile in placed:
            image = read_tile(tile.path)
            check_kind(image, self.first)
            corner = round(tile.x - left), round(tile.y - top)
            tiles.append(_Tile(tile.path, *corner, *image.shape))
        self.tiles = sorted(tiles, key=lambda tile: (tile.top, tile.left))
        self.shape = (
            max(tile.top + tile.height for tile in tiles),
            max(tile.left + tile.width for tile in tiles),
        )
        self._check_cover()
        self._decoded = functools.lru_cache(self._tiles_in_memory())(tile_pixels)
        overlaps = self._overlaps()
        sides = [min(right - left, low - high) for _, _, (left, high, right, low) in overlaps]
        self._reach = max(1, int(np.median(sides))) if sides else 1  # of the weights at an edge
        self._gains = self._find_gains(overlaps)

    def _check_cover(self):
        height, width = self.shape
        covered = sum(tile.height * tile.width for tile in self.tiles) / (height * width)
        if covered < SMALLEST_COVER:
            raise UserError(
                f"{self._path} spreads {len(self.tiles)} tiles over {height}x{width} pixels, of "
                f"which they cover {100 * covered:.2g}%: positions must be in pixels"
            )
        corners = np.array([(tile.left, tile.top) for tile in self.tiles])
        side = np.median([(tile.width, tile.height) for tile in self.tiles], 0)
        check_apart(corners, side, f"by {self._path}")

    def _tiles_in_memory(self) -> int:
        """Return the number of tiles of two rows of tiles."""
        tops = np.array([tile.top for tile in self.tiles])
        bottoms = tops + [tile.height for tile in self.tiles]
        high = max(tile.height for tile in self.tiles)
        in_band = np.searchsorted(tops, tops + high) - np.searchsorted(np.sort(bottoms), tops)
        return int(2 * max(in_band)) + 2

    def _overlaps(self) -> list[tuple[int, int, tuple[int, int, int, int]]]:
        """Return the pairs of tiles that overlap, and the box that they share."""
        out, high = [], max(tile.height for tile in self.tiles)
        tops = np.array([tile.top for tile in self.tiles])
        for k, tile in enumerate(self.tiles):
            for j in range(int(np.searchsorted(tops, tile.top - high)), k):
                if box := self.tiles[j].overlap(tile):
                    out.append((j, k, box))
        return out

    def _part(self, tile: _Tile, box: tuple[int, int, int, int]) -> np.ndarray:
        left, top, right, bottom = box
        pixels = self._decoded(tile.path)
        return pixels[top - tile.top : bottom - tile.top, left - tile.left : right - tile.left]

    def _find_gains(self, overlaps: list) -> np.ndarray:
        """Return the factor of each tile's brightness, with a geometric mean of 1.

        Least squares of the differences that remain in the overlaps, weighted by their area.
        """
        pairs, steps, weights = [], [], []
        for j, k, box in overlaps:
            left, top, right, bottom = box
            if min(right - left, bottom - top) < SMALLEST_OVERLAP:
                continue
            means = [float(np.mean(self._part(self.tiles[n], box))) for n in (j, k)]
            if min(means) < 1:
                continue
            pairs.append((j, k))
            steps.append(np.log(means[1] / means[0]))
            weights.append((right - left) * (bottom - top))
        count = len(self.tiles)
        if not pairs:
            return np.ones(count)
        from scipy.sparse import coo_array, eye_array
        from scipy.sparse.linalg import spsolve

        first, second = np.array(pairs).T
        share = np.array(weights) / np.max(weights)
        row = np.arange(len(pairs))
        differences = coo_array(
            (np.concatenate([np.ones(len(pairs)), -np.ones(len(pairs))]),
             (np.concatenate([row, row]), np.concatenate([first, second]))),
            shape=(len(pairs), count),
        ).tocsr()  # fmt: skip
        weighted = differences.T * share
        normal = weighted @ differences + 1e-6 * eye_array(count)
        gains = spsolve(normal.tocsc(), weighted @ np.array(steps))
        gains -= gains.mean()
        if np.abs(gains).max() < VISIBLE_GAIN:
            return np.ones(count)
        return np.clip(np.exp(gains), *GAIN_RANGE)

    def notes(self) -> list[str]:
        """Return sentences about evened brightness and places without tiles."""
        out = []
        low, high = self._gains.min(), self._gains.max()
        if high > low:
            out.append(f"the brightness of its tiles is evened by factors from {low:.2f} to "
                       f"{high:.2f}")  # fmt: skip
        step = 16
        cover = np.zeros([-(-length // step) for length in self.shape], bool)
        for tile in self.tiles:
            rows = slice(tile.top // step, -(-(tile.top + tile.height) // step))
            cover[rows, tile.left // step : -(-(tile.left + tile.width) // step)] = True
        if not cover.all():
            out.append(f"no tile covers {100 * (1 - cover.mean()):.1f}% of it: it is black there")
        return out

    def _weights(self, length: int, start: int, stop: int) -> np.ndarray:
        """Return how much the pixels of a line of a tile count, by the distance to its ends."""
        place = np.arange(start, stop)
        return np.minimum(np.minimum(place + 1, length - place), self._reach).astype(np.float32)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a part of the image, `[h, w]` or RGB `[h, w, 3]`."""
        top, bottom, _ = rows.indices(self.shape[0])
        left, right, _ = columns.indices(self.shape[1])
        area = _Tile(self._path, left, top, max(0, bottom - top), max(0, right - left))
        channels = self.first[:1, :1].shape[2:]
        total = np.zeros((area.height, area.width, *channels), np.float32)
        weight = np.zeros((area.height, area.width), np.float32)
        for tile, gain in zip(self.tiles, self._gains, strict=True):
            box = area.overlap(tile)
            if box is None:
                continue
            x0, y0, x1, y1 = box
            here = np.outer(
                self._weights(tile.height, y0 - tile.top, y1 - tile.top),
                self._weights(tile.width, x0 - tile.left, x1 - tile.left),
            )
            part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            weight[part] += here
            pixels = self._part(tile, box) * np.float32(gain)
            total[part] += pixels * (here[..., None] if channels else here)
        weight = np.maximum(weight, np.finfo(np.float32).tiny)
        mean = total / (weight[..., None] if channels else weight)
        return np.clip(np.rint(mean), 0, np.iinfo(self.first.dtype).max).astype(self.first.dtype)


def open_tiles(folder: pathlib.Path, pattern: str, overlap: float = 0.0) -> Mosaic:
    """Open a folder of tiles with rows and columns in their names as one image.

    Without overlap they are put side by side, and must be complete. With one, they are blended as
    by `open_placed_tiles`, and some may be missing.

    Args:
      folder: of the tiles.
      pattern: of their names, with `{row}` and `{column}` for numbers.
      overlap: part of a tile's side that neighbours share, in [0, 0.5].

    Raises:
      UserError: the pattern is wrong, tiles are missing or cannot be read.
    """
    if not overlap:
        return tiled_mosaic.open_tiles(folder, pattern)
    tiles = find_tiles(folder, pattern)
    mosaic = open_placed_tiles(folder, grid_positions(tiles, overlap))
    notes = [*mosaic.notes, *tiled_mosaic.left_out(folder, pattern, tiles)]
    if missing := missing_tiles(tiles):
        examples = ", ".join(f"row {row} column {column}" for row, column in missing[:3])
        notes.append(f"lacks {len(missing)} tiles of its grid ({examples})")
    return dataclasses.replace(mosaic, notes=tuple(notes))


def grid_positions(tiles: dict[tuple[int, int], pathlib.Path], overlap: float) -> list[PlacedTile]:
    """Return the places of the tiles of a grid whose neighbours share a part of their side.

    Args:
      tiles: the file of each tile that is there, by row and column.
      overlap: part of a tile's side that neighbours share, in [0, 0.5].
    """
    height, width = read_tile(next(iter(tiles.values()))).shape
    step_y, step_x = height * (1 - overlap), width * (1 - overlap)
    return [
        PlacedTile(path, column * step_x, row * step_y)
        for (row, column), path in sorted(tiles.items())
    ]
