"""Units of length, and sizes of pixels that files state."""

import math
import unicodedata
from typing import NamedTuple

MAX_RESOLUTION_PIXEL = 20
"""Largest believable side of a pixel in micrometres where a file states a resolution in pixels per
inch, centimetre or metre. A coarser one is a printer's or a screen's."""

_SYMBOLS = {
    "Ym": 1e30, "Zm": 1e27, "Em": 1e24, "Pm": 1e21, "Tm": 1e18, "Gm": 1e15, "Mm": 1e12, "km": 1e9,
    "hm": 1e8, "dam": 1e7, "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "μm": 1.0, "um": 1.0,
    "nm": 1e-3, "pm": 1e-6, "fm": 1e-9, "am": 1e-12, "zm": 1e-15, "ym": 1e-18, "Å": 1e-4,
    "thou": 25.4, "mil": 25.4, "li": 25400 / 12, "in": 25400.0, "ft": 304800.0, "yd": 914400.0,
    "mi": 1.609344e9, "pt": 25400 / 72, "ua": 1.495978707e17, "ly": 9.4607304725808e21,
    "pc": 3.0856775814913673e22,
}  # fmt: skip
"""Micrometres of each symbol in OME's list of units of length, but its pixel and reference frame.
"""

_PREFIXES = {
    "yotta": 1e30, "zetta": 1e27, "exa": 1e24, "peta": 1e21, "tera": 1e18, "giga": 1e15,
    "mega": 1e12, "kilo": 1e9, "hecto": 1e8, "deca": 1e7, "deka": 1e7, "": 1e6, "deci": 1e5,
    "centi": 1e4, "milli": 1e3, "micro": 1.0, "nano": 1e-3, "pico": 1e-6, "femto": 1e-9,
    "atto": 1e-12, "zepto": 1e-15, "yocto": 1e-18,
}  # fmt: skip

_WORDS = {
    **{prefix + word: size for prefix, size in _PREFIXES.items() for word in ("meter", "metre")},
    "micron": 1.0, "angstrom": 1e-4, "inch": 25400.0, "foot": 304800.0, "yard": 914400.0,
    "mile": 1.609344e9,
}  # fmt: skip
"""Micrometres of each unit that is written out, as in NGFF and in ImageJ."""


class PixelSize(NamedTuple):
    """The size of a pixel and where it is stated.

    Attributes:
      height: in micrometres.
      width: in micrometres.
      source: what states it, such as "OME metadata".
    """

    height: float
    width: float
    source: str


def micrometres(unit: str | None) -> float | None:
    """Return the length of a unit in micrometres, or None if it is no known unit of length.

    Args:
      unit: a symbol such as "nm" or "µm" (either code point of mu), or a word such as "micrometer".
    """
    text = unicodedata.normalize("NFKC", (unit or "").replace("\\u00B5", "µ")).strip('" ')
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    word = text.lower()
    return _WORDS.get(word) or _WORDS.get(word.removesuffix("s"))


def pixel_size(height: float, width: float, source: str) -> PixelSize | None:
    """Return the size of a pixel in micrometres, or None unless both sides are above 0 and finite.

    Args:
      height: in micrometres.
      width: in micrometres.
      source: what states it.
    """
    if not (0 < height < math.inf and 0 < width < math.inf):
        return None
    return PixelSize(height, width, source)


def from_resolution(
    down: float, across: float, unit_length: float, source: str
) -> PixelSize | None:
    """Return the size of a pixel from a resolution, or None if it is missing or a printer's.

    Args:
      down: pixels per unit along a column.
      across: pixels per unit along a row.
      unit_length: length of the unit in micrometres.
      source: what states it.
    """
    if not min(down, across) > 0:
        return None
    size = pixel_size(unit_length / down, unit_length / across, source)
    return size if size and max(size[:2]) < MAX_RESOLUTION_PIXEL else None
