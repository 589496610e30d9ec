"""Layouts that engineers edit, GDSII and OASIS, rasterized part by part with KLayout."""

import pathlib
from typing import NamedTuple

import numpy as np

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read

try:
    import klayout.db as kdb
except ImportError as missing:
    raise UserError(
        "reading a layout needs KLayout's Python module: pip install 'eal-icnet-jax[labels]'"
    ) from missing

SIGNATURES = (b"\x00\x06\x00\x02", b"%SEMI-OASIS\r\n")
"""First bytes of GDSII, a HEADER record, and of OASIS."""

UNITS = 1000
"""Steps that a side of a pixel is divided into, to which vertices are rounded."""

BLOCK = 512
"""Largest side in pixels of a part that is rasterized at once."""

MAX_SHAPES = 2_000_000
"""Largest number of shapes in such a part. A few bytes of a file can repeat a shape without end."""

MAX_FLAT_SHAPES = 5_000_000
"""Largest number of shapes of a layer that is read as a whole."""

GRID_STEPS = 1e-9, 1e4
"""Smallest and largest grid of a layout in micrometres."""


class Box(NamedTuple):
    """A rectangle in micrometres, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def __str__(self):
        return f"x {self.left:.6g} to {self.right:.6g}, y {self.bottom:.6g} to {self.top:.6g} um"

    def meets(self, other: "Box") -> bool:
        """Return whether two rectangles have an area in common."""
        across = min(self.right, other.right) > max(self.left, other.left)
        return across and min(self.top, other.top) > max(self.bottom, other.bottom)

    def is_tiny_in(self, other: "Box") -> bool:
        """Return whether it is less than a hundredth as wide and as high as another rectangle."""
        across = 100 * (self.right - self.left) < other.right - other.left
        return across and 100 * (self.top - self.bottom) < other.top - other.bottom

    def reaches_beyond(self, other: "Box", margin: float) -> bool:
        """Return whether this rectangle is more than a margin outside another one."""
        return (
            min(self.left - other.left, self.bottom - other.bottom) < -margin
            or max(self.right - other.right, self.top - other.top) > margin
        )


def read_layout(path: pathlib.Path) -> kdb.Layout:
    """Read a GDSII or OASIS file.

    Raises:
      UserError: it cannot be read.
    """
    layout = kdb.Layout()
    try:
        with path.open("rb") as file:
            start = file.read(16)
        if not start.startswith(SIGNATURES):
            raise UserError(f"{path} is neither GDSII nor OASIS: export it as one of them")
        options = kdb.LoadLayoutOptions()
        options.text_enabled = False  # texts are no shapes, and would count in extents
        options.warn_level = 0  # its warnings concern what is not read here
        layout.read(str(path), options)
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except RuntimeError as error:  # raised by KLayout
        cause = str(error).split(" (", 1)[0]
        raise UserError(f"{path} cannot be read ({cause}): export it again") from error
    except UnicodeDecodeError as error:  # in such a message
        raise UserError(f"{path} is damaged: export it again") from error
    if not GRID_STEPS[0] <= layout.dbu <= GRID_STEPS[1]:
        raise UserError(f"{path} has a grid of {layout.dbu:g} micrometres: export it again")
    return layout


class DrawnLayout:
    """A layout as it was drawn. Its arrays and cells are not flattened.

    Args:
      path: of its file, for error messages.
      layout: its content.
      cell: name of the cell that is looked at; None for the only one that no other contains.
      remedy: what to do about several such cells, for the error message.

    Raises:
      UserError: the cell is not there or not the only one.
    """

    def __init__(
        self,
        path: pathlib.Path,
        layout: kdb.Layout,
        cell: str | None = None,
        remedy: str = "save a file with one of them",
    ):
        self.path, self._layout, self._remedy = path, layout, remedy
        self._cell = self._find_cell(cell)

    def _find_cell(self, name: str | None) -> kdb.Cell:
        tops = self._layout.top_cells()
        if name is not None:
            cell = self._layout.cell(name)
            if cell is None:
                names = _names(tops)
                raise UserError(f"{self.path} has no cell {name!r}: its topmost are {names}")
            return cell
        if not tops:
            raise UserError(f"{self.path} has no cell: draw something in it")
        if len(tops) > 1:
            raise UserError(
                f"{self.path} has {len(tops)} topmost cells ({_names(tops)}): {self._remedy}"
            )
        return tops[0]

    def layers(self) -> list[tuple[int, int]]:
        """Return the layer and datatype of everything that is drawn in the cell, sorted."""
        infos = [
            self._layout.get_info(index)
            for index in self._layout.layer_indexes()
            if not self._cell.bbox(index).empty()
        ]
        return sorted((info.layer, info.datatype) for info in infos)

    def bounds(self, layer: tuple[int, int]) -> Box | None:
        """Return the extent of a layer, or None if nothing is drawn on it."""
        index = self._layout.find_layer(*layer)
        box = None if index is None else self._cell.dbbox(index)
        if box is None or box.empty():
            return None
        return Box(box.left, box.bottom, box.right, box.top)

    @staticmethod
    def image_box(shape: tuple[int, int], pixel_size: float) -> Box:
        """Return the place of an image of a height and width, in pixels of a size in um."""
        return Box(0, 0, shape[1] * pixel_size, shape[0] * pixel_size)

    def region(self, layer: tuple[int, int]) -> kdb.Region:
        """Return the shapes of a layer, flattened and merged.

        Raises:
          UserError: there are too many shapes.
        """
        index = self._layout.find_layer(*layer)
        if index is None:
            return kdb.Region()
        counts: dict[int, int] = {}
        for below in self._layout.each_cell_bottom_up():
            cell = self._layout.cell(below)
            instances = ((inst.cell_index, inst.size()) for inst in cell.each_inst())
            counts[below] = cell.shapes(index).size() + sum(
                counts[child] * copies for child, copies in instances
            )
        if counts[self._cell.cell_index()] > MAX_FLAT_SHAPES:
            raise UserError(
                f"{self.path} has over {MAX_FLAT_SHAPES:,} shapes on layer {layer[0]}/{layer[1]}: "
                "merge them"
            )
        region = kdb.Region(self._cell.begin_shapes_rec(index))
        return region.merged()

    def mask(
        self,
        layer: tuple[int, int],
        shape: tuple[int, int],
        pixel_size: float,
        corner: tuple[float, float] = (0.0, 0.0),
    ) -> "LayoutMask":
        """Return a layer as a mask `[H, W]`; see `LayoutMask`."""
        return LayoutMask(self, self._layout.find_layer(*layer), shape, pixel_size, corner)

    def coverage(
        self, index: int, left: float, bottom: float, size: tuple[int, int], pixel_size: float
    ) -> np.ndarray:
        """Return the part of each pixel that is covered, `[h, w]` float in [0, 1], y upwards.

        Args:
          index: of the layer in KLayout.
          left, bottom: corner of the part in micrometres.
          size: h and w, pixels.
          pixel_size: side of a pixel in micrometres.

        Raises:
          UserError: there are too many shapes.
        """
        height, width = size
        corner = left + width * pixel_size, bottom + height * pixel_size
        box = kdb.DBox(left, bottom, *corner).enlarged(pixel_size, pixel_size)
        box = box.to_itype(self._layout.dbu)
        region = kdb.Region()
        shapes = self._layout.begin_shapes_touching(self._cell, index, box)
        count = 0
        while not shapes.at_end():
            count += 1
            if count > MAX_SHAPES:
                raise UserError(
                    f"{self.path} has over {MAX_SHAPES:,} shapes in {BLOCK}x{BLOCK} pixels: merge "
                    "them, or name a smaller --pixel-size"
                )
            if shapes.shape().is_box() or shapes.shape().is_polygon() or shapes.shape().is_path():
                region.insert(shapes.shape().polygon.transformed(shapes.trans()))
            shapes.next()
        region &= kdb.Region(box)
        region.merge()  # so that no area counts twice
        magnify = self._layout.dbu / pixel_size * UNITS
        shift = -left / pixel_size * UNITS, -bottom / pixel_size * UNITS
        region = region.transformed(kdb.ICplxTrans(kdb.DCplxTrans(magnify, 0, False, *shift)))
        areas = region.rasterize(kdb.Point(0, 0), kdb.Vector(UNITS, UNITS), width, height)
        return np.array(areas) / UNITS**2


def _names(cells: list[kdb.Cell], most: int = 6) -> str:
    """Return the names of cells, the first few if they are many."""
    names = []
    for cell in cells[:most]:
        try:
            names.append(cell.name)
        except (UnicodeDecodeError, RuntimeError):  # KLayout turns some of the former into these
            names.append("one whose name is not UTF-8")
    return ", ".join([*sorted(names), *["..."] * (len(cells) > most)])


class LayoutMask:
    """A layer of a layout as a mask `[H, W]`. Indexing it with slices computes that part.

    A pixel is inside if more than half of its area is: a hole of one pixel whose neighbours meet at
    its corners is half covered in layouts of `layout_files.write_layout`.

    Args:
      file: the layout.
      index: of the layer in KLayout.
      shape: height and width of the image in pixels.
      pixel_size: side of a pixel in micrometres.
      corner: place (x, y) of the image's lower-left corner in the layout, in micrometres.
    """

    def __init__(
        self,
        file: DrawnLayout,
        index: int,
        shape: tuple[int, int],
        pixel_size: float,
        corner: tuple[float, float] = (0.0, 0.0),
    ):
        self._file, self._index, self._pixel_size = file, index, pixel_size
        self.shape, self._corner = shape, corner

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """Return a part, `[h, w]` bool."""
        (top, end, _), (left, right, _) = (
            part.indices(length) for part, length in zip(index, self.shape, strict=True)
        )
        out = np.zeros((end - top, right - left), bool)
        for y in range(top, end, BLOCK):
            for x in range(left, right, BLOCK):
                size = min(BLOCK, end - y), min(BLOCK, right - x)
                left_edge = self._corner[0] + x * self._pixel_size
                bottom = self._corner[1] + (self.shape[0] - y - size[0]) * self._pixel_size
                coverage = self._file.coverage(
                    self._index, left_edge, bottom, size, self._pixel_size
                )
                part = out[y - top : y - top + size[0], x - left : x - left + size[1]]
                part[:] = coverage[::-1] > 0.5 + 1 / UNITS
        return out
