"""A folder of tiles as a mosaic."""

import functools
import itertools
import pathlib
import re
from collections.abc import Iterable

import cv2
import numpy as np

from eal_icnet_jax.imaging import decoding
from eal_icnet_jax.imaging.mosaics import Mosaic, Reader
from eal_icnet_jax.system.errors import UserError

STRIP = 16
"""Number of a tile's last columns that are looked for in the next tile."""


def open_tiles(folder: pathlib.Path, pattern: str) -> Mosaic:
    """Open a folder of tiles as one image.

    Args:
      folder: holds a complete rectangle of tiles of one size, except that those of the last row and
        of the last column may be smaller.
      pattern: of the tiles' names, with `{row}` and `{column}` for numbers.

    Raises:
      UserError: the pattern is wrong, tiles are missing, or the first or last cannot be read.
    """
    found = find_tiles(folder, pattern)
    tiles = _TileGrid(_complete_grid(folder, found))
    notes = tiles.overlaps() + left_out(folder, pattern, found)
    return mosaic_of_tiles(folder, tiles.first, tiles.shape, tiles.read, notes)


def mosaic_of_tiles(
    path: pathlib.Path,
    first: Mosaic,
    shape: tuple[int, int],
    read: Reader,
    notes: Iterable[str],
    files: tuple[pathlib.Path, ...] = (),
) -> Mosaic:
    """Return tiles as one image. Its pixels have the kind and the size of those of the first tile.

    Args:
      path: of the image.
      first: the first tile.
      shape: height and width of the image.
      read: reads a part of it.
      notes: what a user should know of the tiles, besides what the first one says.
      files: of the tiles, if `path` is not their folder.
    """
    source = first.pixel_size_source and f"{first.pixel_size_source} of {first.path.name}"
    return Mosaic(
        path, shape, first.dtype, first.pixel_size, read, pixel_size_source=source,
        white=first.white, notes=(*first.notes, *notes), files=files,
    )  # fmt: skip


def find_tiles(folder: pathlib.Path, pattern: str) -> dict[tuple[int, int], pathlib.Path]:
    """Return the files whose names match a pattern, by row and column.

    Raises:
      UserError: the pattern is wrong, or no file or two files of one place match it.
    """
    if sorted(re.findall(r"{(\w*)}", pattern)) != ["column", "row"] or "}{" in pattern:
        raise UserError(
            f"--tiles is {pattern}: name tiles as in tile_{{row}}_{{column}}.png, with something "
            "between the numbers"
        )
    expression = re.escape(pattern)
    for key in ("row", "column"):
        expression = expression.replace(re.escape(f"{{{key}}}"), rf"(?P<{key}>-?\d+)")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds tiles")
    paths: dict[tuple[int, int], pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
        if match := re.fullmatch(expression, path.name):
            place = int(match["row"]), int(match["column"])
            if place in paths:
                raise UserError(
                    f"{folder} holds two tiles of row {place[0]} and column {place[1]}, "
                    f"{paths[place].name} and {path.name}: remove one"
                )
            paths[place] = path
    if not paths:
        raise UserError(f"{folder} holds no file named as {pattern}")
    return paths


def left_out(
    folder: pathlib.Path, pattern: str, tiles: dict[tuple[int, int], pathlib.Path]
) -> list[str]:
    """Return a sentence about files that end as the tiles do and are no tiles, if there are any."""
    ending = pathlib.Path(pattern).suffix
    files = {path for path in folder.glob(f"*{ending}") if path.is_file()}
    others = sorted(files - set(tiles.values()))
    if not others:
        return []
    return [
        f"{len(others)} files are not named as {pattern} and left out, such as {others[0].name}"
    ]


def _overlap(first: np.ndarray, second: np.ndarray) -> int:
    """Return by how many columns two tiles side by side seem to overlap, or 0.

    They do if the first tile's last columns are found again within the second tile, and its last
    column does not go on in the second tile's first one.
    """
    first, second = (image.max(-1) if image.ndim == 3 else image for image in (first, second))
    height, width = (min(sizes) for sizes in zip(first.shape, second.shape, strict=True))
    if height < 2 * STRIP or width < 4 * STRIP:
        return 0
    first, second = first[:height].astype(np.float32), second[:height].astype(np.float32)
    margin = STRIP // 2  # tiles may be shifted a little along the edge
    strip = first[margin : height - margin, -STRIP:]
    fits = cv2.matchTemplate(second[:, : width // 2], strip, cv2.TM_CCOEFF_NORMED)
    _, best, _, (column, _) = cv2.minMaxLoc(np.nan_to_num(fits))
    goes_on = cv2.matchTemplate(
        second[margin : height - margin, :1], strip[:, -1:], cv2.TM_CCOEFF_NORMED
    )[0, 0]
    return column + STRIP if best > 0.9 and goes_on < 0.5 else 0


def _ranges(paths: dict[tuple[int, int], pathlib.Path]) -> tuple[range, range]:
    """Return the rows and the columns of a grid of tiles."""
    rows, columns = (range(min(numbers), max(numbers) + 1) for numbers in zip(*paths, strict=True))
    return rows, columns


def missing_tiles(paths: dict[tuple[int, int], pathlib.Path]) -> list[tuple[int, int]]:
    """Return row and column of each tile that a grid lacks."""
    return [place for place in itertools.product(*_ranges(paths)) if place not in paths]


def _complete_grid(
    folder: pathlib.Path, paths: dict[tuple[int, int], pathlib.Path]
) -> list[list[pathlib.Path]]:
    """Return rows of paths, or raise a `UserError` that names the missing tiles."""
    rows, columns = _ranges(paths)
    if missing := missing_tiles(paths):
        examples = ", ".join(f"row {row} column {column}" for row, column in missing[:3])
        raise UserError(f"{folder} lacks {len(missing)} tiles of its grid ({examples}): add them")
    return [[paths[row, column] for column in columns] for row in rows]


def read_tile(path: pathlib.Path) -> Mosaic:
    """Return a tile as it is stored."""
    return decoding.open_encoded(decoding.read_bytes(path), str(path))


def tile_pixels(path: pathlib.Path) -> np.ndarray:
    """Return the pixels of a tile as they are stored."""
    return np.ascontiguousarray(read_tile(path)[slice(None), slice(None)])


class _TileGrid:
    """Tiles as one image. Two rows of tiles are kept in memory.

    Args:
      grid: rows of paths.

    Attributes:
      first: the tile of the first row and column.
      shape: height and width of the whole image.
      dtype: of the pixels.
    """

    def __init__(self, grid: list[list[pathlib.Path]]):
        self._grid = grid
        self._decoded = functools.lru_cache(2 * len(grid[0]))(tile_pixels)
        self.first = read_tile(grid[0][0])
        first, last = self._decoded(grid[0][0]), self._decoded(grid[-1][-1])
        self.dtype, self._channels = first.dtype, first.shape[2:]
        self._size, self._last_size = first.shape[:2], last.shape[:2]
        if any(np.greater(self._last_size, self._size)):
            raise UserError(
                f"{grid[-1][-1]} ({self._last_size[1]}x{self._last_size[0]} pixels) is larger than "
                f"{grid[0][0]} ({self._size[1]}x{self._size[0]}): only tiles of the last row or "
                "column may be smaller than the others"
            )
        rows, columns = len(grid), len(grid[0])
        self.shape = (
            (rows - 1) * self._size[0] + self._last_size[0],
            (columns - 1) * self._size[1] + self._last_size[1],
        )

    def _tile(self, row: int, column: int) -> np.ndarray:
        path = self._grid[row][column]
        tile = self._decoded(path)
        is_last = row == len(self._grid) - 1, column == len(self._grid[0]) - 1
        size = (self._last_size[k] if is_last[k] else self._size[k] for k in (0, 1))
        expected = (*size, *self._channels)
        if tile.shape != expected or tile.dtype != self.dtype:
            raise UserError(
                f"{path} is {'x'.join(map(str, tile.shape))} {tile.dtype} and not "
                f"{'x'.join(map(str, expected))} {self.dtype} as the others"
            )
        return tile

    def overlaps(self) -> list[str]:
        """Return a sentence for each direction in which the first tiles seem to overlap."""
        found = []
        if len(self._grid[0]) > 1:
            count = _overlap(self._tile(0, 0), self._tile(0, 1))
            found += [(count, "columns", self._grid[0][1])] if count else []
        if len(self._grid) > 1:
            upper, lower = (self._tile(row, 0).swapaxes(0, 1) for row in (0, 1))
            count = _overlap(upper, lower)
            found += [(count, "rows", self._grid[1][0])] if count else []
        return [
            f"{self._grid[0][0].name} and {path.name} seem to overlap by {count} {axis}: stitch "
            "overlapping tiles first, because here they are put side by side"
            for count, axis, path in found
        ]

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a part of the image, `[h, w]` or RGB `[h, w, 3]`."""
        top, bottom, _ = rows.indices(self.shape[0])
        left, right, _ = columns.indices(self.shape[1])
        height, width = self._size
        out = np.empty((bottom - top, right - left, *self._channels), self.dtype)
        for i in range(top // height, -(-bottom // height)):
            for j in range(left // width, -(-right // width)):
                tile = self._tile(i, j)
                y, x = i * height, j * width
                y0, y1 = max(top, y), min(bottom, y + tile.shape[0])
                x0, x1 = max(left, x), min(right, x + tile.shape[1])
                out[y0 - top : y1 - top, x0 - left : x1 - left] = tile[
                    y0 - y : y1 - y, x0 - x : x1 - x
                ]
        return out
