"""Masks as layout: polygons with holes, in physical units, for KLayout, Degate and the like.

    python -m eal_icnet_jax.layout --metal=MASK --via=MASK --output=out.gds --pixel-size=0.02

Writes GDSII (.gds), OASIS (.oas), or SVG in the form of HY5SYN's labels (.svg). Either mask may be
left out.
"""

import argparse
import dataclasses
import datetime
import heapq
import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence

import contourpy
import gdstk
import numpy as np
import shapely

from eal_icnet_jax import mosaics
from eal_icnet_jax.datasets.hy5syn import svg_labels
from eal_icnet_jax.errors import UserError, command_parser, run_command
from eal_icnet_jax.files import whole, write_whole

SUFFIXES = (".gds", ".oas", ".svg")
LAYERS = {"metal": (1, 0), "via": (2, 0)}
"""GDSII layer and datatype of each kind of mask."""

MOST_VERTICES = 4000
"""Of a polygon in a GDSII record; one with more is written in pieces."""

BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class Shapes:
    """How masks become shapes.

    tolerance: how far an outline may be simplified, in pixels. Up to 0.5 none can meet another.
    manhattan: only horizontal and vertical edges; steps of up to `jog` pixels are straightened.
    via: `circle` of a via's area, `box` around it, or its `outline`.
    smallest: area in pixels that a shape has at least.
    """

    tolerance: float = 0.5
    manhattan: bool = False
    jog: float = 2
    via: str = "circle"
    smallest: float = 0


def _starts(length: int, block: int) -> range:
    """Where blocks begin that share a line of pixels with the next."""
    return range(0, max(length - 1, 1), block)


def outlines(mask: np.ndarray, block: int = BLOCK) -> list[shapely.Polygon]:
    """The 8-connected regions of a mask as polygons with holes.

    Args:
      mask: `[H, W]`, non-zero is inside; anything that slices like an array.
      block: side in pixels of what is looked at at once; the result does not depend on it.

    Returns:
      Polygons in pixels, the image's upper left corner being (0, 0) and its lower right (W, H).
      They run through the middles of pixel edges, so that corners are cut by half a pixel: a
      region's area is its pixels' less half a pixel, and more by half a pixel for each hole.
    """
    height, width = mask.shape
    whole, cut = [], []
    for top in _starts(height, block):
        bottom = min(top + block, height - 1)
        for left in _starts(width, block):
            right = min(left + block, width - 1)
            # Blocks meet in the middle of a line of pixels that both have.
            beside = ((top == 0, bottom == height - 1), (left == 0, right == width - 1))
            part = np.asarray(mask[top : bottom + 1, left : right + 1]) != 0
            part = np.pad(part, np.array(beside, int))
            seams = (
                left and left + 0.5, top and top + 0.5,
                right < width - 1 and right + 0.5, bottom < height - 1 and bottom + 0.5,
            )  # fmt: skip
            origin = left + 0.5 - (left == 0), top + 0.5 - (top == 0)
            for polygon in _traced(part, origin):
                touches = any(a and a == b for a, b in zip(seams, polygon.bounds, strict=True))
                (cut if touches else whole).append(polygon)
    joined = shapely.union_all(cut) if cut else shapely.GeometryCollection()
    return whole + [part for part in shapely.get_parts(joined) if part.geom_type == "Polygon"]


def _traced(mask: np.ndarray, origin: tuple[float, float]) -> Iterator[shapely.Polygon]:
    if min(mask.shape) < 2 or not mask.any():
        return
    generator = contourpy.contour_generator(z=mask.astype(np.float32), fill_type="OuterOffset")
    # Just below the middle, where diagonal neighbours hang together.
    for points, offsets in zip(*generator.filled(0.4999, 2), strict=True):
        points = np.rint(2 * points) / 2 + origin
        outer, *holes = (points[a:b] for a, b in itertools.pairwise(offsets))
        yield shapely.Polygon(outer, holes)


def simplified(polygons: Sequence[shapely.Polygon], tolerance: float) -> list[shapely.Polygon]:
    """The polygons with fewer vertices: outlines before and after are within the tolerance.

    Those that would vanish or cross themselves stay as they are.
    """
    out = []
    for polygon in polygons:
        # As lines, whose ends stay: that of a ring may go further than the tolerance.
        rings = [shapely.LineString(r.coords) for r in (polygon.exterior, *polygon.interiors)]
        rings = [ring.coords for ring in shapely.simplify(rings, tolerance)]
        fewer = shapely.Polygon(rings[0], rings[1:]) if min(map(len, rings)) > 3 else None
        out.append(fewer if fewer and fewer.is_valid else polygon)
    return out


def manhattan(polygon: shapely.Polygon, jog: float) -> shapely.Polygon:
    """One of `outlines` with horizontal and vertical edges alone.

    Args:
      polygon: runs through the middles of pixel edges.
      jog: steps up to this many pixels high, and notches as wide and as deep, are straightened;
        0 gives the pixels' own edges.

    Returns:
      The polygon; its pixels' own edges where straightening makes edges cross.
    """
    rings = [_pixel_edges(np.asarray(r.coords)) for r in (polygon.exterior, *polygon.interiors)]
    outer, *holes = (_straightened(ring, jog) for ring in rings)
    straight = shapely.Polygon(outer, holes)
    return straight if straight.is_valid else shapely.Polygon(rings[0], rings[1:])


def _pixel_edges(ring: np.ndarray) -> np.ndarray:
    """Corners `[N, 2]` of the pixel edges whose middles a closed ring runs through."""
    ring, following = ring[:-1], ring[1:]
    upright, next_upright = (points[:, 0] == np.rint(points[:, 0]) for points in (ring, following))
    corner = np.where(
        upright[:, None],
        np.stack([ring[:, 0], following[:, 1]], 1),
        np.stack([following[:, 0], ring[:, 1]], 1),
    )
    return corner[upright != next_upright]


def _straightened(corners: np.ndarray, jog: float) -> np.ndarray:
    """Corners `[N, 2]` of a ring of horizontal and vertical edges, in turns, with fewer of them.

    The shortest edge goes first: the two beside it become one, at their mean by length.
    """
    count = len(corners)
    # Of edge k, from corner k to the next: its line's coordinate, and whether it is upright.
    following = np.roll(corners, -1, axis=0)
    upright = corners[:, 0] == following[:, 0]
    line = np.where(upright, corners[:, 0], corners[:, 1]).tolist()
    before = [(k - 1) % count for k in range(count)]
    after = [(k + 1) % count for k in range(count)]
    alive = [True] * count

    def length(k):
        return abs(line[after[k]] - line[before[k]])

    queue = [(length(k), k) for k in range(count) if length(k) <= jog]
    heapq.heapify(queue)
    left = count
    while queue and left > 4:
        size, k = heapq.heappop(queue)
        if not alive[k] or size != length(k) or size > jog:
            continue
        a, b = before[k], after[k]
        first = line[k] - line[before[a]]
        second = line[after[b]] - line[k]
        if first * second < 0 and min(abs(first), abs(second)) > jog:
            continue  # a narrow notch or tongue, but a deep one
        total = abs(first) + abs(second)
        line[a] = (line[a] * abs(first) + line[b] * abs(second)) / total if total else line[a]
        alive[k] = alive[b] = False
        after[a] = after[b]
        before[after[b]] = a
        left -= 2
        for other in (before[a], a, after[a]):
            if length(other) <= jog:
                heapq.heappush(queue, (length(other), other))
    start = alive.index(True)
    out, k = [], start
    while True:
        previous = before[k]
        out.append((line[k], line[previous]) if upright[k] else (line[previous], line[k]))
        k = after[k]
        if k == start:
            return np.array(out)


def via_shapes(polygons: Sequence[shapely.Polygon], kind: str) -> list[shapely.Polygon]:
    """Outlines of vias as circles of their areas, as boxes around them, or as they are."""
    if kind == "outline" or not polygons:
        return list(polygons)
    if kind == "box":
        return list(shapely.box(*shapely.bounds(np.array(polygons, object)).T))
    centres = shapely.centroid(np.array(polygons, object))
    radii = np.sqrt(shapely.area(np.array(polygons, object)) / np.pi)
    # 32 sides, of the circle's area.
    sides = np.pi / 32
    return list(shapely.buffer(centres, radii * np.sqrt(sides / (np.sin(sides) * np.cos(sides)))))


def polygons_of(mask: np.ndarray, kind: str, shapes: Shapes) -> list[shapely.Polygon]:
    """A mask's shapes in pixels.

    Args:
      mask: `[H, W]`, non-zero is inside.
      kind: metal or via.
      shapes: what becomes of the outlines.
    """
    found = [polygon for polygon in outlines(mask) if polygon.area >= shapes.smallest]
    if kind == "via":
        return via_shapes(found, shapes.via)
    if shapes.manhattan:
        return [manhattan(polygon, shapes.jog) for polygon in found]
    return simplified(found, shapes.tolerance)


def write(
    path: pathlib.Path,
    masks: dict[str, np.ndarray],
    pixel_size: float = 1,
    shapes: Shapes | None = None,
) -> dict[str, int]:
    """Writes masks as layout, whole or not at all.

    Args:
      path: ends in .gds, .oas or .svg.
      masks: `[H, W]` of one size by kind, `metal` or `via`.
      pixel_size: side of a pixel in micrometres.
      shapes: what becomes of the outlines, `Shapes()` if not given; an SVG has its masks' pixels.

    Returns:
      How many shapes of each kind there are.

    Raises:
      UserError: the ending is another, or the file cannot be written.
    """
    check(path)
    shapes = shapes or Shapes()
    if path.suffix.lower() == ".svg":
        return _write_svg(path, masks)
    height = next(iter(masks.values())).shape[0]
    # Half a pixel is a whole number of grid steps, if pixels are whole nanometres.
    grid = 1e-9 if pixel_size >= 0.1 else 1e-10
    library = gdstk.Library("EAL_ICNET", unit=1e-6, precision=grid)
    cell = library.new_cell(re.sub(r"\W", "_", path.stem, flags=re.ASCII)[:32] or "TOP")
    counts = {}
    for kind, mask in masks.items():
        found = polygons_of(mask, kind, shapes)
        counts[kind] = len(found)
        for polygon in found:
            cell.add(*_for_gds(polygon, height, pixel_size, *LAYERS[kind]))
    with whole(path) as partial:
        if path.suffix.lower() == ".gds":
            epoch = datetime.datetime(1980, 1, 1)  # so that equal masks give equal files
            library.write_gds(partial, max_points=MOST_VERTICES, timestamp=epoch)
        else:
            library.write_oas(partial, validation="crc32")
        _check_written(partial, path, len(cell.polygons))
    return counts


def _check_written(written: pathlib.Path, path: pathlib.Path, polygons: int):
    """Raises an `OSError` where not all is there: gdstk does not tell, of a full disk for one."""
    try:
        if path.suffix.lower() == ".gds":
            is_whole = gdstk.gds_info(written)["num_polygons"] >= polygons  # large ones are cut
        else:
            is_whole, _ = gdstk.oas_validate(written)
    except OSError:
        is_whole = False
    if not is_whole:
        raise OSError("not all of it came to the disk, which may be full")


def check(path: pathlib.Path):
    """Raises a `UserError` where no layout can be written under this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} names no layout: let it end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is not a folder: make it, or name another for {path.name}")


def _for_gds(
    polygon: shapely.Polygon, height: int, pixel_size: float, layer: int, datatype: int
) -> list[gdstk.Polygon]:
    """A polygon in micrometres, y upwards; a hole is joined to the outline by a cut."""
    rings = []
    for ring in (polygon.exterior, *polygon.interiors):
        points = np.asarray(ring.coords)[:-1]
        rings.append(np.stack([points[:, 0], height - points[:, 1]], 1) * pixel_size)
    if len(rings) == 1:
        return [gdstk.Polygon(rings[0], layer=layer, datatype=datatype)]
    precision = 1e-3 * pixel_size
    return gdstk.boolean(rings[:1], rings[1:], "not", precision, layer, datatype)


def _write_svg(path: pathlib.Path, masks: dict[str, np.ndarray]) -> dict[str, int]:
    height, width = next(iter(masks.values())).shape
    none = np.zeros((height, width), bool)
    tracks, vias = (np.asarray(masks.get(kind, none)[:, :]) != 0 for kind in ("metal", "via"))
    labels = svg_labels.Labels.of_masks(tracks, vias)
    write_whole(path, labels.to_svg())
    return {"metal": len(labels.tracks), "via": len(labels.vias)}


def add_options(out: argparse.ArgumentParser):
    """The options of a command that writes layout."""
    defaults = Shapes()
    add = out.add_argument
    add(
        "--pixel-size", type=float,
        help="side of a pixel in micrometres (what the image's file tells, else 1)",
    )  # fmt: skip
    add(
        "--tolerance", type=float, default=defaults.tolerance,
        help=f"pixels by which outlines may be simplified ({defaults.tolerance})",
    )  # fmt: skip
    add("--manhattan", action="store_true", help="horizontal and vertical edges alone")
    add(
        "--jog", type=float, default=defaults.jog,
        help=f"with --manhattan, steps up to so many pixels are straightened ({defaults.jog})",
    )  # fmt: skip
    add(
        "--via-shape", choices=("circle", "box", "outline"), default=defaults.via,
        help=f"how vias are drawn ({defaults.via})",
    )  # fmt: skip


def shapes_of(arguments: argparse.Namespace) -> Shapes:
    """What the options of `add_options` say.

    Raises:
      UserError: a length makes no sense.
    """
    if arguments.pixel_size is not None and not arguments.pixel_size > 0:
        raise UserError(f"--pixel-size is {arguments.pixel_size}: it must be above 0 micrometres")
    for name in ("tolerance", "jog"):
        if not 0 <= getattr(arguments, name) < float("inf"):
            raise UserError(f"--{name} is {getattr(arguments, name)}: it must be 0 or more pixels")
    return Shapes(arguments.tolerance, arguments.manhattan, arguments.jog, arguments.via_shape)


def pixel_size_of(arguments: argparse.Namespace, known: tuple[float, float] | None) -> float:
    """The side of a pixel in micrometres: as the options say, else as the image's file does.

    Raises:
      UserError: pixels are not square.
    """
    if arguments.pixel_size is not None:
        return arguments.pixel_size
    if known is None:
        return 1.0
    height, width = known
    if abs(height - width) > 1e-3 * width:
        raise UserError(
            f"pixels are {width:g} x {height:g} micrometres in the image's file, and layout needs "
            "square ones: name --pixel-size"
        )
    return width


def told(path: pathlib.Path, counts: dict[str, int]) -> str:
    """What has been written, as a line for the user."""
    return f"{', '.join(f'{count:,} {kind}' for kind, count in counts.items())} shapes in {path}"


def parser() -> argparse.ArgumentParser:
    out = command_parser("layout", __doc__)
    for kind, layer in LAYERS.items():
        where = "/".join(map(str, layer))
        out.add_argument(f"--{kind}", type=pathlib.Path, help=f"mask of layer {where}")
    out.add_argument("--output", type=pathlib.Path, required=True, help="file to write")
    add_options(out)
    return out


def run(arguments: argparse.Namespace):
    shapes = shapes_of(arguments)
    check(arguments.output)
    paths = {kind: path for kind in LAYERS if (path := getattr(arguments, kind))}
    if not paths:
        raise UserError("there is no mask: name one with --metal or --via")
    opened = {kind: mosaics.open_mosaic(path) for kind, path in paths.items()}
    masks = {kind: mosaics.Mask(mosaic) for kind, mosaic in opened.items()}
    if len({mask.shape for mask in masks.values()}) > 1:
        sizes = " and ".join("x".join(map(str, mask.shape)) for mask in masks.values())
        raise UserError(f"the masks are {sizes} (height x width): name two of one image")
    known = next(iter(opened.values())).pixel_size
    counts = write(arguments.output, masks, pixel_size_of(arguments, known), shapes)
    print(told(arguments.output, counts))


def main(argv: list[str] | None = None):
    run_command(parser(), run, argv)


if __name__ == "__main__":
    main()
