"""Images that are stored turned or mirrored, as EXIF and TIFF state it, read upright."""

from typing import Any, NamedTuple

from eal_icnet_jax.imaging.mosaics import Reader


class _Turn(NamedTuple):
    """How an upright image comes from the stored one: transposed first, then mirrored."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool


TURNS = {
    2: _Turn(False, False, True),
    3: _Turn(False, True, True),
    4: _Turn(False, True, False),
    5: _Turn(True, False, False),
    6: _Turn(True, False, True),
    7: _Turn(True, True, True),
    8: _Turn(True, True, False),
}
"""The turn of each value of the tag Orientation (TIFF 6.0, EXIF 2.3), but 1, which is upright."""


def _mirrored(part: slice, length: int) -> slice:
    start, stop, _ = part.indices(length)
    return slice(length - stop, length - start)


def upright(
    shape: tuple[int, int],
    read: Reader,
    pixel_size: tuple[float, float] | None,
    orientation: int,
) -> tuple[tuple[int, int], Reader, tuple[float, float] | None]:
    """Return height and width, reader and pixel size of an image as it is to be looked at.

    Args:
      shape: height and width as stored.
      read: reads a part of the stored image.
      pixel_size: height and width of a stored pixel, or None.
      orientation: value of the tag; any but 2 to 8 changes nothing.
    """
    turn = TURNS.get(orientation)
    if turn is None:
        return shape, read, pixel_size
    height, width = shape[::-1] if turn.transpose else shape

    def read_upright(rows: slice, columns: slice) -> Any:
        rows = _mirrored(rows, height) if turn.flip_rows else slice(*rows.indices(height)[:2])
        if turn.flip_columns:
            columns = _mirrored(columns, width)
        else:
            columns = slice(*columns.indices(width)[:2])
        part = read(columns, rows).swapaxes(0, 1) if turn.transpose else read(rows, columns)
        return part[:: -1 if turn.flip_rows else 1, :: -1 if turn.flip_columns else 1]

    return (height, width), read_upright, pixel_size and pixel_size[:: -1 if turn.transpose else 1]
