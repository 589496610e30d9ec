"""Files that say where the tiles of a mosaic lie."""

import csv
import io
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import tifffile

from eal_icnet_jax.imaging import ome_names
from eal_icnet_jax.imaging.tiff_metadata import TiffMetadata
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import MADE_BY, cannot_be_read
from eal_icnet_jax.system.tables import Row, read_table, read_text

SUFFIXES = (".txt", ".csv")
"""Endings of files of positions, in lower case."""

MAX_TILES = 200_000
"""Largest number of tiles."""

MAX_PLACE = 1e8
"""Largest coordinate in pixels."""

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"

FIJI = re.compile(
    rf"(?P<name>[^;]+);[^;]*;\s*\(\s*(?P<x>{NUMBER})\s*,\s*(?P<y>{NUMBER})\s*(?:,\s*0*\.?0*\s*)?\)\s*"
)
"""A line of Fiji's TileConfiguration.txt. With `dim = 3`, a third number of 0 is one layer."""

MIST = re.compile(
    rf"file:\s*(?P<name>[^;]+);.*?position:\s*\(\s*(?P<x>{NUMBER})\s*,\s*(?P<y>{NUMBER})\s*\).*"
)
"""A line of MIST's global positions."""

COLUMNS = ("name", "x", "y")
"""Columns of a table of positions. Others are allowed."""


class PlacedTile(NamedTuple):
    """A tile and its upper left corner in pixels. Only differences of places count."""

    path: pathlib.Path
    x: float
    y: float


def read_positions(path: pathlib.Path) -> list[PlacedTile]:
    """Read the positions of tiles that lie beside the file or in folders below.

    Understands Fiji's TileConfiguration.txt and TileConfiguration.registered.txt, the global
    positions of MIST, and CSV with the columns name, x and y. All are pixels, y downwards.

    Args:
      path: of the file.

    Raises:
      UserError: it cannot be read, is of another form, or names a tile that is not there.
    """
    if path.suffix.lower() == ".csv":
        rows = [_of_table(row) for row in read_table(path, COLUMNS)]
    else:
        rows = _lines(path, read_text(path))
    if not rows:
        raise UserError(f"{path} names no tile: write a line for each")
    return _checked(path, rows)


def _of_table(row: Row) -> tuple[str, str, float, float]:
    x, y = (row.number(axis, "pixels", MAX_PLACE) for axis in ("x", "y"))
    return row.place, row.values["name"], x, y


def _lines(path: pathlib.Path, text: str) -> list[tuple[str, str, float, float]]:
    """Return place in the file, name, x and y of each line of Fiji's or MIST's form."""
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#") or re.fullmatch(r"(dim|multiseries)\s*=.*", line):
            continue
        match = MIST.fullmatch(line) or FIJI.fullmatch(line)
        if match is None:
            raise UserError(
                f"{path}, line {number} is no position of a tile: write it as in Fiji's "
                "TileConfiguration.txt, such as tile_1.png; ; (0.0, 0.0)"
            )
        place = f"{path}, line {number}"
        x, y = float(match["x"]), float(match["y"])
        if max(abs(x), abs(y)) >= MAX_PLACE:
            raise UserError(f"{place}: positions must be in pixels")
        out.append((place, match["name"].strip(), x, y))
    return out


def _checked(path: pathlib.Path, rows: Sequence[tuple[str, str, float, float]]) -> list[PlacedTile]:
    """Return rows as tiles whose files exist, each named once."""
    if len(rows) > MAX_TILES:
        raise UserError(f"{path} names over {MAX_TILES:,} tiles: split it")
    folder = path.parent.resolve()
    seen: set[pathlib.Path] = set()
    out, missing = [], []
    for place, written, x, y in rows:
        name = written.replace("\\", "/")  # as Windows separates folders
        tile, file = path.parent / name, (folder / name).resolve()
        if file in seen:
            raise UserError(f"{place}: {name} is named above too: remove one")
        seen.add(file)
        if not name or not file.is_relative_to(folder):
            raise UserError(f"{place}: name a tile in the folder of {path.name}")
        if not tile.is_file():
            missing.append(name)
        out.append(PlacedTile(tile, x, y))
    if missing:
        raise UserError(
            f"{path} names {len(missing)} tiles that are not there, such as "
            f"{', '.join(missing[:3])}: add them, or remove their lines"
        )
    return out


def read_stage_positions(
    folder: pathlib.Path, flip_x: bool = False, flip_y: bool = False
) -> list[PlacedTile]:
    """Read the positions of the stage that the OME-TIFF files of a folder state.

    Args:
      folder: of the tiles, each a file that ends in .ome.tif or .ome.tiff.
      flip_x: whether the stage counts from right to left.
      flip_y: whether it counts from bottom to top.

    Raises:
      UserError: there are none, or one does not state its position or the size of its pixels.
    """
    paths = sorted(filter(ome_names.is_ome_tiff, folder.glob("*")))
    if not paths:
        raise UserError(f"{folder} has no files that end in .ome.tif: name the folder of the tiles")
    if len(paths) > MAX_TILES:
        raise UserError(f"{folder} has over {MAX_TILES:,} tiles: split it")
    out: list[PlacedTile] = []
    first: tuple[float, float, pathlib.Path] | None = None
    for path in paths:
        try:
            with tifffile.TiffFile(path) as file:
                metadata = TiffMetadata(file, cast(tifffile.TiffPage, file.pages[0]), path.name)
                place, size = metadata.stage_position(), metadata.pixel_size()
        except OSError as error:
            raise cannot_be_read(path, error) from error
        except Exception as error:  # damaged metadata raise errors of any type
            raise UserError(f"{path} is no readable TIFF file: copy it again") from error
        if place is None or not size or not np.isfinite(place).all():
            raise UserError(
                f"{path} does not state where the stage was, in a unit of length, and the size of "
                "its pixels: name --tiles and --tile-overlap instead"
            )
        height, width = size[:2]
        first = (*size[:2], path) if first is None else first
        if not np.allclose(size[:2], first[:2], rtol=0.01):
            raise UserError(
                f"{path} states pixels of {width:g} micrometres, and {first[2]} of {first[1]:g}: "
                "photograph all tiles at one magnification, or correct the size"
            )
        x, y = place[0] / width, place[1] / height
        if max(abs(x), abs(y)) >= MAX_PLACE:
            raise UserError(f"{path} lies at {x:.3g}, {y:.3g} pixels: its pixel size must be wrong")
        out.append(PlacedTile(path, -x if flip_x else x, -y if flip_y else y))
    return out


def positions_table(tiles: Sequence[PlacedTile], folder: pathlib.Path) -> str:
    """Return tiles as CSV that `read_positions` reads.

    Its column `software` says what wrote it: such a table may be replaced.

    Args:
      tiles: that lie in the folder or below it.
      folder: in which the file will lie.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, "software"))
    for tile in tiles:
        name = (
            (tile.path.parent.resolve() / tile.path.name).relative_to(folder.resolve()).as_posix()
        )
        places = (f"{round(v, 2):.10g}" for v in tile[1:])
        writer.writerow((name, *places, MADE_BY.decode()))
    return text.getvalue()
