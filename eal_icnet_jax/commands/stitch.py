"""Find the places of overlapping tiles, and write them as one image or as a table of positions.

    eal-icnet stitch TILES --tiles=tile_{row}_{column}.png --tile-overlap=15 -o die.ome.tif
    eal-icnet stitch TILES --stage -o die.ome.tif
    eal-icnet stitch TILES/TileConfiguration.txt -o die.ome.tif

The places are looked for around those of a grid, those where OME-TIFF files say that the stage was,
or those of a file of positions. With -o positions.csv, only the places are written: every command
opens such a file as one image. It must lie in the folder of the tiles or above it.
"""

import argparse
import pathlib

from eal_icnet_jax.imaging import ome_names
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import check_parent

SEARCH = 0.075
"""How far is searched around known positions by default, as part of a tile's side."""


MANY = 0.2
"""Part of the pairs of neighbours from which on those that do not fit are many."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet stitch`."""
    add = parser.add_argument
    add("source", type=pathlib.Path, metavar="TILES",
        help="folder of the tiles, or file of their positions")  # fmt: skip
    add("--tiles", metavar="PATTERN",
        help="names of the tiles of a grid, such as tile_{row}_{column}.png")  # fmt: skip
    add("--tile-overlap", type=float, metavar="PERCENT",
        help="part of a tile's side that neighbours of a grid share, about")  # fmt: skip
    add("--stage", action="store_true", help="tiles are OME-TIFF files that state their position")
    add("--flip-x", action="store_true", help="the stage counts from right to left")
    add("--flip-y", action="store_true", help="the stage counts from bottom to top")
    add("--search", type=float, metavar="PERCENT",
        help="largest deviation, as part of a tile's side (half of the overlap; 7.5 without a "
        "grid)")  # fmt: skip
    add("-o", "--output", type=pathlib.Path, required=True, metavar="FILE",
        help=f"{ome_names.SUFFIXES[0]} for the image, or .csv for the positions")  # fmt: skip
    add("--force", action="store_true", help="replace a file that another program wrote")


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet stitch`."""
    output, source = arguments.output, arguments.source
    if not source.exists():
        raise UserError(f"{source} is not there: name a folder of tiles or a file of positions")
    overlap, search = _overlap_and_search(arguments)
    is_table = output.suffix.lower() == ".csv"
    if not is_table and not ome_names.is_ome_tiff(output):
        raise UserError(f"{output} is no result: let it end in {ome_names.SUFFIXES[0]} or .csv")
    check_parent(output)
    folder = (source.parent if source.is_file() else source).resolve()
    if is_table and not folder.is_relative_to(output.parent.resolve()):
        raise UserError(f"{output} must lie in {folder} or above it, so that it can name the tiles")
    if arguments.stage and not is_table and output.parent.resolve() == folder:
        raise UserError(
            f"{output} lies in {folder}, whose OME-TIFF files are all taken for tiles: name an "
            "output elsewhere"
        )

    from eal_icnet_jax.imaging import (
        mosaic_writing,
        placed_mosaic,
        stitching,
        tile_positions,
        tiled_mosaic,
    )
    from eal_icnet_jax.system.files import check_replaceable, write_atomically
    from eal_icnet_jax.system.terminal import warn

    check_replaceable(output, arguments.force)
    missing, others = [], []
    if overlap is not None:
        grid = tiled_mosaic.find_tiles(folder, arguments.tiles)
        tiles, missing = set(grid.values()), tiled_mosaic.missing_tiles(grid)
        others = tiled_mosaic.left_out(folder, arguments.tiles, grid)
    else:
        placed = (
            tile_positions.read_stage_positions(source, arguments.flip_x, arguments.flip_y)
            if arguments.stage
            else tile_positions.read_positions(source)
        )
        tiles = {tile.path.resolve() for tile in placed}
    if output.resolve() in tiles | {source.resolve()}:
        raise UserError(f"{output} is one of the inputs: name another --output")
    if overlap is not None:
        found = stitching.stitch(grid, overlap, search)
    else:
        found = stitching.refine(placed, search)
    print(
        f"{len(found.tiles)} tiles placed by {found.fitting} of {found.pairs} pairs of neighbours, "
        f"which agree to {found.deviation:.2f} pixels"
    )
    if missing:
        warn(f"{source} lacks {len(missing)} tiles of its grid, such as row "
             f"{missing[0][0]} column {missing[0][1]}")  # fmt: skip
    for note in others:
        warn(f"{source}: {note}")
    if unsure := found.pairs - found.fitting:
        many = f", which are many: {found.hint}" if unsure > MANY * found.pairs else ""
        warn(f"{unsure} pairs of neighbours show nothing to place them by, or contradict the "
             f"others{many}")  # fmt: skip
    if found.unplaced:
        warn(f"{len(found.unplaced)} tiles, such as {found.unplaced[0].name}, are joined to most "
             "others by no pair that fits: they lie where they were expected")  # fmt: skip
    if is_table:
        table = tile_positions.positions_table(found.tiles, output.parent)
        write_atomically(output, table)
        print(f"positions in {output}")
        return
    mosaic = placed_mosaic.open_placed_tiles(source, found.tiles)
    for note in mosaic.notes:
        warn(f"{source}: {note}")
    mosaic_writing.write_ome_tiff(output, mosaic)
    print(f"{mosaic.shape[1]}x{mosaic.shape[0]} pixels in {output}")


def _overlap_and_search(arguments: argparse.Namespace) -> tuple[float | None, float]:
    """Return the overlap of a grid, or None if there is none, and how far to search.

    Both are parts of a tile's side.
    """
    is_grid = arguments.tiles is not None or arguments.tile_overlap is not None
    if (arguments.flip_x or arguments.flip_y) and not arguments.stage:
        raise UserError("--flip-x and --flip-y say how the stage counts: name --stage too")
    if arguments.source.is_file() and arguments.stage:
        raise UserError(
            f"--stage reads the OME-TIFF files of a folder, and {arguments.source} is a file: name "
            "the folder"
        )
    if arguments.source.is_file() or arguments.stage:
        if is_grid:
            raise UserError(
                "--tiles and --tile-overlap are for a grid, and positions are named: remove one"
            )
        search = SEARCH if arguments.search is None else arguments.search / 100
        if not 0 < search <= 0.5:
            raise UserError(f"--search is {100 * search:g}: name 1 to 50 percent")
        return None, search
    if arguments.tiles is None or arguments.tile_overlap is None:
        raise UserError(
            f"{arguments.source} is a folder: name --tiles and --tile-overlap for a grid, or "
            "--stage for OME-TIFF files that state their position"
        )
    overlap = arguments.tile_overlap / 100
    search = overlap / 2 if arguments.search is None else arguments.search / 100
    if not 0 < overlap <= 0.5:
        raise UserError(f"--tile-overlap is {arguments.tile_overlap:g}: name 1 to 50 percent")
    if not 0 < search < overlap:
        raise UserError(
            f"--search is {100 * search:g}: name less than the overlap of {100 * overlap:g} percent"
        )
    return overlap, search
