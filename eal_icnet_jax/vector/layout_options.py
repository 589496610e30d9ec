"""Formats, layers and options of layouts.

Imports nothing heavy, so that commands can offer them before they do any work.
"""

import dataclasses
import pathlib

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import check_parent

LAYOUT_SUFFIXES = (".gds", ".oas", ".svg")
"""Endings of GDSII, OASIS and SVG files, in lower case."""

LAYOUT_READ_SUFFIXES = (".gds", ".gds2", ".gdsii", ".oas", ".oasis")
"""Endings of layouts that are read, in lower case."""

LAYERS = {"metal": (1, 0), "via": (2, 0)}
"""GDSII layer and datatype of each kind of mask."""

VIA_SHAPES = ("circle", "box", "outline")
"""Shapes in which vias are drawn; see `ShapeOptions`."""


@dataclasses.dataclass(frozen=True)
class ShapeOptions:
    """How masks become shapes.

    Attributes:
      tolerance: largest distance in pixels by which an outline may be simplified. 0 keeps every
        step.
      manhattan: only horizontal and vertical edges; `tolerance` does not apply.
      jog: with `manhattan`, steps of up to this many pixels are straightened. 0 keeps the edges of
        the pixels.
      via_shape: `circle` of the via's area, `box` around the via, or its `outline`, drawn like
        metal. A via whose circle or box would meet another one keeps its outline, and so does one
        that fills less than 0.65 of its box.
      min_area: smallest number of pixels of a region; smaller regions are left out.

    Raises:
      UserError: an option has a value that makes no sense.
    """

    tolerance: float = 0.45
    manhattan: bool = False
    jog: float = 2
    via_shape: str = "circle"
    min_area: float = 0

    def __post_init__(self):
        for name, field in (("--tolerance", "tolerance"), ("--jog", "jog"), ("min_area",) * 2):
            value = getattr(self, field)
            if not 0 <= value < float("inf"):
                raise UserError(f"{name} is {value}: it must be 0 or more pixels")
        if self.via_shape not in VIA_SHAPES:
            raise UserError(f"--via-shape is {self.via_shape}: name {', '.join(VIA_SHAPES)}")


def check_layout_path(path: pathlib.Path):
    """Raise a `UserError` if no layout can be written at this path."""
    if path.suffix.lower() not in LAYOUT_SUFFIXES:
        raise UserError(f"{path} names no layout: let it end in {', '.join(LAYOUT_SUFFIXES)}")
    check_parent(path)


def is_layout(path: pathlib.Path) -> bool:
    """Return whether a file is a layout that is read, by its ending."""
    return path.suffix.lower() in LAYOUT_READ_SUFFIXES


def layer_of(text: str) -> tuple[int, int]:
    """Return layer and datatype from a text such as `1/0` or `1`.

    Raises:
      ValueError: it is neither.
    """
    numbers = [int(number) for number in text.split("/")]
    if len(numbers) > 2 or not all(0 <= number < 2**16 for number in numbers):
        raise ValueError(text)
    return numbers[0], numbers[1] if len(numbers) == 2 else 0


def check_pixel_size(pixel_size: float | None):
    """Raise a `UserError` if a side of a pixel in micrometres is given but not positive."""
    if pixel_size is not None and not 0 < pixel_size < float("inf"):
        raise UserError(f"--pixel-size is {pixel_size}: it must be above 0 micrometres")


def pixel_size_text(size: float, source: str, is_named: bool) -> str:
    """Return a sentence about the pixel size that a layout was written with.

    Args:
      size: side of a pixel in micrometres.
      source: what states it, if the user did not name it.
      is_named: whether the user named it.
    """
    return f"pixel size {size:g} um, from {'--pixel-size' if is_named else source}"


def square_pixel_size(
    stated: tuple[float, float] | None, override: float | None = None
) -> float | None:
    """Return the side of a pixel in micrometres, or None if it is unknown.

    Args:
      stated: height and width of a pixel according to the image file, or None.
      override: the side that the user names, which goes before `stated`.

    Raises:
      UserError: the override is not positive, or stated pixels are not square.
    """
    check_pixel_size(override)
    if override is not None or stated is None:
        return override
    height, width = stated
    if abs(height - width) > 1e-3 * width:
        raise UserError(
            f"pixels are {width:g} x {height:g} micrometres in the image's file, and a layout "
            "needs square ones: name --pixel-size"
        )
    return width
