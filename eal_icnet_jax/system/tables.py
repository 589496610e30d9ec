"""Tables that users write as CSV."""

import csv
import io
import math
import pathlib
from typing import NamedTuple

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read

MAX_BYTES = 2**26
"""Largest size of a table."""


class Row(NamedTuple):
    """A row. `place` says where it lies, for error messages."""

    place: str
    values: dict[str, str]

    def number(self, column: str, unit: str, largest: float) -> float:
        """Return a number.

        Args:
          column: that it stands in.
          unit: of the number, for the error message.
          largest: magnitude that it stays below.

        Raises:
          UserError: there is none, or it is too large.
        """
        try:
            value = float(self.values[column])
        except ValueError:
            value = math.nan
        if not abs(value) < largest:
            raise UserError(f"{self.place}: {column} must be a number of {unit}")
        return value


def read_text(path: pathlib.Path) -> str:
    """Return the text of a file.

    Raises:
      UserError: it cannot be read, is too large or no text.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} has over {MAX_BYTES >> 20} MB: split it")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: export it again") from error


def read_table(path: pathlib.Path, columns: tuple[str, ...]) -> list[Row]:
    """Read a CSV file whose first line names its columns.

    Args:
      path: of the file.
      columns: that it must have, in lower case; others are allowed. Case and spaces around a name
        do not count.

    Returns:
      The rows, with texts without spaces around them.

    Raises:
      UserError: it cannot be read, or lacks a column.
    """
    out = []
    reader = csv.DictReader(io.StringIO(read_text(path)))
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        if twice := [name for name in columns if names.count(name) > 1]:
            raise UserError(f"{path} has two columns {twice[0]}: remove one")
        missing = set(columns) - set(names)
        if missing:
            raise UserError(
                f"{path} has no column {', '.join(sorted(missing))}: its first line must be "
                f"{','.join(columns)}"
            )
        for row in reader:
            values = {name: (row[name] or "").strip() for name in columns}
            out.append(Row(f"{path}, line {reader.line_num}", values))
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file ({error}): export it again") from error
    return out
