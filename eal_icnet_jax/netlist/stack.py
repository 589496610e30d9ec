"""The layers of a stack as one layout, read from masks and layouts."""

import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Sequence

from eal_icnet_jax.imaging import mosaic_files
from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.imaging.mosaics import Mosaic, image_with_pixel_size
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector.layout_files import write_layout
from eal_icnet_jax.vector.layout_options import (
    LAYERS,
    ShapeOptions,
    is_layout,
    layer_of,
    square_pixel_size,
)
from eal_icnet_jax.vector.layout_reader import DrawnLayout, kdb, read_layout

SHAPES = ShapeOptions(via_shape="box")
"""How masks become shapes."""


@dataclasses.dataclass(frozen=True)
class LayerSource:
    """Where a layer of a stack comes from.

    Attributes:
      name: such as "metal1", or "via1" for the vias between metal 1 and metal 2.
      path: a mask or a layout.
      layer: layer and datatype in a layout; None for that of `LAYERS`.
    """

    name: str
    path: pathlib.Path
    layer: tuple[int, int] | None = None

    @property
    def kind(self) -> str:
        """Either "metal" or "via"."""
        return self.name.rstrip("0123456789")

    @property
    def is_layout(self) -> bool:
        """Whether the file is a layout."""
        return is_layout(self.path)


def source_of(name: str, text: str) -> LayerSource:
    """Return the source of a layer from PATH, or from PATH@LAYER/DATATYPE for a layout.

    Raises:
      UserError: the text is neither.
    """
    path, mark, layer = text.rpartition("@")
    if not mark or not is_layout(pathlib.Path(path)):
        return LayerSource(name, pathlib.Path(text))
    try:
        return LayerSource(name, pathlib.Path(path), layer_of(layer))
    except ValueError:
        raise UserError(
            f"--{name} is {text}: name a layer behind the @, such as chip.gds@31/0"
        ) from None


def in_order(sources: Sequence[LayerSource]) -> list[LayerSource]:
    """Return the layers of a stack from the lowest to the highest.

    Raises:
      UserError: one is missing.
    """
    by_name = {source.name: source for source in sources}
    metals = sorted(int(name[5:]) for name in by_name if name.startswith("metal"))
    if not metals:
        raise UserError("there is no metal: name at least --metal1")
    out = []
    for number in range(metals[0], metals[-1] + 1):
        names = [f"metal{number}"] + ([f"via{number}"] if number < metals[-1] else [])
        for name in names:
            if name not in by_name:
                raise UserError(
                    f"metal{metals[0]} and metal{metals[-1]} are not connected without {name}: "
                    f"name --{name}"
                )
            out.append(by_name.pop(name))
    if by_name:
        name = min(by_name)
        raise UserError(
            f"--{name} connects metal{name[3:]} to metal{int(name[3:]) + 1}, and both are needed: "
            "name them, or remove it"
        )
    return out


@dataclasses.dataclass(frozen=True)
class Stack:
    """A layout of one cell that holds a stack.

    Attributes:
      layout: its layers have the number that `number_of` returns, and datatype 0.
      names: of the layers, from the lowest to the highest.
      notes: a sentence for each thing about the files that a user should know.
      pixel_size: side of a pixel in micrometres, or None if there are no pixels.
      frame: height and width of the masks in pixels, or None if there are only layouts.
    """

    layout: kdb.Layout
    names: tuple[str, ...]
    notes: tuple[str, ...]
    pixel_size: float | None = None
    frame: tuple[int, int] | None = None

    @property
    def cell(self) -> kdb.Cell:
        """The only cell."""
        return self.layout.top_cell()

    def index_of(self, name: str) -> int:
        """Return KLayout's index of a layer."""
        return self.layout.layer(*number_of(name), name)

    def region(self, name: str) -> kdb.Region:
        """Return the merged shapes of a layer."""
        return kdb.Region(self.cell.shapes(self.index_of(name)))


def number_of(name: str) -> tuple[int, int]:
    """Return the layer and datatype of a layer in written files: 1, 2, 3, ... from metal 1 up."""
    number = int(re.sub(r"\D", "", name))
    return 2 * number - (name.startswith("metal")), 0


def _check_masks(masks: dict[str, Mosaic], pixel_size: float | None) -> float | None:
    """Return the pixel size of masks of one photograph, or None if it is unknown.

    Raises:
      UserError: they differ in size, or their pixels do.
    """
    if not masks:
        return pixel_size
    first, *others = masks
    for name in others:
        if masks[name].shape != masks[first].shape:
            a, b = ("x".join(map(str, masks[key].shape)) for key in (first, name))
            raise UserError(
                f"{first} has {a} pixels (height x width), and {name} {b}: bring the layers into "
                "one frame first"
            )
    image = image_with_pixel_size(masks.values(), pixel_size)
    return square_pixel_size(image.pixel_size if image else None, pixel_size)


def read_stack(sources: Sequence[LayerSource], pixel_size: float | None = None) -> Stack:
    """Read the layers of a stack.

    Masks of one size lie over each other, the lower left corner at the origin. Layouts lie where
    they are drawn.

    Args:
      sources: of the layers, in any order.
      pixel_size: side of a mask's pixel in micrometres; None for what the files state.

    Raises:
      UserError: a layer is missing, cannot be read or does not fit the others.
    """
    ordered = in_order(sources)
    masks = {s.name: mosaic_files.open_mosaic(s.path) for s in ordered if not s.is_layout}
    size = _check_masks(masks, pixel_size)
    if masks and size is None and len(masks) < len(ordered):
        name = next(iter(masks))
        raise UserError(
            f"the pixel size of {masks[name].path} is unknown, and layouts have micrometres: name "
            "--pixel-size"
        )
    notes: list[str] = []
    drawn: list[tuple[str, float, kdb.Region]] = []
    with tempfile.TemporaryDirectory() as folder:
        for source in ordered:
            path, layer = source.path, source.layer or LAYERS[source.kind]
            if not source.is_layout:
                mask = MosaicMask(masks[source.name])
                notes += [f"{source.path} {note}" for note in mask.notes]
                path, layer = pathlib.Path(folder) / f"{source.name}.gds", LAYERS[source.kind]
                # Without a pixel size, micrometres stand for pixels.
                write_layout(path, {source.kind: mask}, size or 1.0, SHAPES)
            layout = read_layout(path)
            region = DrawnLayout(source.path, layout).region(layer)
            if region.is_empty():
                if source.is_layout:
                    raise UserError(
                        f"{source.path} has nothing on layer {layer[0]}/{layer[1]}: name another "
                        f"one, such as --{source.name}={source.path}@31/0"
                    )
                notes.append(f"{source.path} has no {source.kind}")
            drawn.append((source.name, layout.dbu, region))
    if masks and size is None:
        notes.append("the pixel size is unknown, so that micrometres stand for pixels: name "
                     "--pixel-size")  # fmt: skip
    frame = next((mask.shape for mask in masks.values()), None)
    names = tuple(name for name, *_ in drawn)
    pixel = size or (1.0 if masks else pixel_size)
    return Stack(_joined(drawn), names, tuple(notes), pixel, frame)


def _joined(drawn: list[tuple[str, float, kdb.Region]]) -> kdb.Layout:
    """Return one layout of regions, each with the grid of its own layout in micrometres."""
    out = kdb.Layout()
    out.dbu = min(grid for _, grid, _ in drawn)
    cell = out.create_cell("CHIP")
    for name, grid, region in drawn:
        if grid != out.dbu:
            region.transform(kdb.ICplxTrans(grid / out.dbu))
        cell.shapes(out.layer(*number_of(name), name)).insert(region)
    return out
