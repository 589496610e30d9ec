"""The level of white: 16 bits often hold fewer, as cameras and electron microscopes write them."""

import dataclasses

import numpy as np

from eal_icnet_jax.imaging.mosaics import Mosaic, blocks
from eal_icnet_jax.system.errors import UserError

WHITE_LEVELS = (2**8 - 1, 2**10 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)
"""Levels of white of the depths that are stored in 16 bits."""


def check_white(white: int | None, option: str):
    """Raise a `UserError` if a level of white that a user names, unless None, cannot be one."""
    if white is not None and not 1 <= white <= WHITE_LEVELS[-1]:
        raise UserError(f"{option} is {white}: name a level from 1 to {WHITE_LEVELS[-1]}")


def largest_level(mosaic: Mosaic) -> int:
    """Return the largest level of an image, or of a part of it that holds all 16 bits' range."""
    largest = 0
    for block in blocks(mosaic.shape):
        largest = max(largest, int(mosaic[block].max(initial=0)))
        if largest > WHITE_LEVELS[-2]:
            break
    return largest


def white_of(largest: int) -> int:
    """Return the level of white of images whose largest level is given: that of the least depth."""
    if largest == 0:
        return WHITE_LEVELS[-1]
    return next(white for white in WHITE_LEVELS if largest <= white)


def in_full_range(
    mosaic: Mosaic, white: int | None = None, unstated_white: int | None = None
) -> Mosaic:
    """Return an image whose white is the largest value of its type.

    Args:
      mosaic: uint8 or uint16; others are returned as they are.
      white: level of white, which goes before what the file states. If neither is known, it is
        decided once from all levels of an image of 16 bits, and noted. Higher levels become white.
      unstated_white: level of white of an image of 16 bits whose file states none.

    Raises:
      UserError: the image has fewer bits than `white`; or when it is read, if a level is above the
        white that the file states.
    """
    if mosaic.dtype not in (np.uint8, np.uint16):
        return mosaic
    maximum = int(np.iinfo(mosaic.dtype).max)
    notes = mosaic.notes
    is_stated = white is None and mosaic.white is not None
    if white is not None and white > maximum:
        raise UserError(f"{mosaic.path} has 8 bits, so {white} cannot be its white: name up to 255")
    if is_stated:
        white = mosaic.white
    elif white is None and mosaic.dtype == np.uint16 and unstated_white is not None:
        white = unstated_white
    elif white is None and mosaic.dtype == np.uint16:
        largest = largest_level(mosaic)
        white = white_of(largest)
        if white < maximum:
            notes += (
                f"its 16 bits hold no level above {largest}, so {white} is taken for white; "
                "--white or config.dataset.white names another level",
            )
    if white in (None, maximum):
        return mosaic
    table = np.minimum(np.arange(maximum + 1, dtype=np.uint64), white) * maximum
    table = ((table + white // 2) // white).astype(mosaic.dtype)

    def read(rows: slice, columns: slice) -> np.ndarray:
        part = mosaic.read(rows, columns)
        if is_stated and part.max(initial=0) > white:
            raise UserError(
                f"{mosaic.path} has the level {part.max()}, but its metadata state {white} for "
                "white: name the level of white with --white"
            )
        return table[part]

    return dataclasses.replace(mosaic, read=read, white=None, notes=notes)
