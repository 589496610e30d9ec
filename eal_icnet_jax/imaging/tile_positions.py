"""Files that say where the tiles of a mosaic lie."""

import csv
import io
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read

SUFFIXES = (".txt", ".csv")
"""Endings of files of positions, in lower case."""

MAX_BYTES = 2**26
"""Largest size of a file of positions."""

MAX_TILES = 200_000
"""Largest number of tiles."""

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"

FIJI = re.compile(rf"(?P<name>[^;]+);[^;]*;\s*\(\s*(?P<x>{NUMBER})\s*,\s*(?P<y>{NUMBER})\s*\)\s*")
"""A line of Fiji's TileConfiguration.txt."""

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
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} has over {MAX_BYTES >> 20} MB: it is no file of positions")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text: name a file of positions of tiles") from error
    rows = _table(path, text) if path.suffix.lower() == ".csv" else _lines(path, text)
    if not rows:
        raise UserError(f"{path} names no tile: write a line for each")
    return _checked(path, rows)


def _lines(path: pathlib.Path, text: str) -> list[tuple[int, str, float, float]]:
    """Return line number, name, x and y of each line of Fiji's or MIST's form."""
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
        out.append((number, match["name"].strip(), float(match["x"]), float(match["y"])))
    return out


def _table(path: pathlib.Path, text: str) -> list[tuple[int, str, float, float]]:
    """Return line number, name, x and y of each row of a CSV file."""
    out = []
    try:
        reader = csv.DictReader(io.StringIO(text))
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise UserError(
                f"{path} has no column {', '.join(sorted(missing))}: its first line must be "
                f"{','.join(COLUMNS)}"
            )
        for row in reader:
            try:
                x, y = float(row["x"]), float(row["y"])
            except (TypeError, ValueError):
                raise UserError(f"{path}, line {reader.line_num}: x and y must be pixels") from None
            out.append((reader.line_num, (row["name"] or "").strip(), x, y))
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file ({error}): export it again") from error
    return out


def _checked(path: pathlib.Path, rows: Sequence[tuple[int, str, float, float]]) -> list[PlacedTile]:
    """Return rows as tiles whose files exist, each named once."""
    if len(rows) > MAX_TILES:
        raise UserError(f"{path} names over {MAX_TILES:,} tiles: split it")
    folder = path.parent.resolve()
    seen: dict[str, int] = {}
    out, missing = [], []
    for number, name, x, y in rows:
        place = f"{path}, line {number}"
        if not max(abs(x), abs(y)) < 1e8:  # also if it is not a number
            raise UserError(f"{place}: x and y must be pixels")
        if name in seen:
            raise UserError(f"{place}: {name} is named in line {seen[name]} too: remove one")
        seen[name] = number
        tile = path.parent / name
        if not name or not (folder / name).resolve().is_relative_to(folder):
            raise UserError(f"{place}: name a tile in the folder of {path.name}")
        if not tile.is_file():
            missing.append(f"{name} (line {number})")
        out.append(PlacedTile(tile, x, y))
    if missing:
        raise UserError(
            f"{path} names {len(missing)} tiles that are not there, such as "
            f"{', '.join(missing[:3])}: add them, or remove their lines"
        )
    return out


def positions_table(tiles: Sequence[PlacedTile], folder: pathlib.Path) -> str:
    """Return tiles as CSV that `read_positions` reads.

    Args:
      tiles: that lie in the folder.
      folder: in which the file will lie.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for tile in tiles:
        name = tile.path.relative_to(folder).as_posix()
        writer.writerow((name, *(f"{round(v, 2):.10g}" for v in tile[1:])))
    return text.getvalue()
