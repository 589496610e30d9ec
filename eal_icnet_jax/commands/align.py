"""Move the image of a layer so that it lies over that of another layer.

    eal-icnet align metal1.ome.tif metal2.ome.tif -o moved.ome.tif

It may be shifted, turned by up to 5 degrees, a little larger or smaller, and smoothly bent.
Photographs are compared by their edges, masks by how deep inside each pixel lies. Writes the moved
image; moved.json, the map; and moved_places.csv and .png, which show how far to trust it. A map
also moves other images of the same layer, such as its masks:

    eal-icnet align metal1.ome.tif metal2_mask.ome.tif --map=moved.json -o moved_mask.ome.tif
"""

import argparse
import pathlib

from eal_icnet_jax.imaging import ome_names
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import check_parent

SEARCH = 128
"""Largest distance in pixels by default."""

WORTH_A_LOOK = 2.0
"""Deviation in pixels of 5% of the places from which on a warning points at the picture."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet align`."""
    add = parser.add_argument
    add("reference", type=pathlib.Path, metavar="REFERENCE", help="image that stays in place")
    add("moving", type=pathlib.Path, metavar="MOVING", help="image that is moved over it")
    add("-o", "--output", type=pathlib.Path, required=True, metavar="FILE",
        help="moved image, .ome.tif")  # fmt: skip
    add("--model", choices=("rigid", "affine", "bend"), default="bend",
        help="turned and shifted; also scaled and sheared; also bent (bend)")  # fmt: skip
    add("--search", type=int, default=SEARCH, metavar="PIXELS",
        help=f"largest distance of the two from each other ({SEARCH})")  # fmt: skip
    add("--points", type=pathlib.Path, metavar="CSV",
        help="the same places in both, three or more, as lines of reference_x,reference_y,x,y in "
        "pixels, where it cannot be found")  # fmt: skip
    add("--map", type=pathlib.Path, metavar="JSON",
        help="use the map that an earlier run found")  # fmt: skip
    add("--force", action="store_true", help="replace files that another program wrote")


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet align`."""
    from eal_icnet_jax.imaging import alignment_report, mosaic_files, mosaic_writing, moved_mosaic
    from eal_icnet_jax.imaging.image_pairs import has_few_values
    from eal_icnet_jax.system.files import check_replaceable, check_report_replaceable
    from eal_icnet_jax.system.terminal import warn

    output = arguments.output
    if not ome_names.is_ome_tiff(output):
        raise UserError(f"{output} is no result: let it end in {ome_names.SUFFIXES[0]}")
    check_parent(output)
    if not 1 <= arguments.search <= 1024:
        raise UserError(f"--search is {arguments.search}: name 1 to 1024 pixels")
    if arguments.map and arguments.points:
        raise UserError("--map and --points both say how the image lies: name one of them")
    given = (arguments.reference, arguments.moving, arguments.points, arguments.map)
    beside = [] if arguments.map else [*alignment_report.paths_beside(output).values()]
    reference, moving = (mosaic_files.open_mosaic(path) for path in given[:2])
    sources = {path.resolve() for path in (*given, *reference.files, *moving.files) if path}
    for path in (output, *beside):
        if path.resolve() in sources:
            raise UserError(f"{path} would be replaced by a result: name another --output")
    check_replaceable(output, arguments.force)
    if beside:
        check_report_replaceable(output.parent, [path.name for path in beside], arguments.force)
    for image in (reference, moving):
        for note in image.notes:
            warn(f"{image.path}: {note}")
    if arguments.map:
        mapped, shape = moved_mosaic.read_map(arguments.map)
        for image, wanted in ((reference, mapped.shape), (moving, shape)):
            if image.shape != wanted:
                sizes = ["x".join(map(str, size)) for size in (image.shape, wanted)]
                raise UserError(
                    f"{image.path} has {sizes[0]} pixels (height x width), and {arguments.map} is "
                    f"for {sizes[1]}: name the images that it was found for, or others of their "
                    "frames"
                )
    else:
        found = _found(arguments, reference, moving)
        mapped = found.map
    result = moved_mosaic.moved(moving, mapped, has_few_values(moving), reference)
    mosaic_writing.write_ome_tiff(output, result)
    if not arguments.map:
        alignment_report.write_report(output, found, reference, moving)
    print(f"{result.shape[1]}x{result.shape[0]} pixels in {output}")


def _found(arguments: argparse.Namespace, reference, moving):
    """Return how the images lie, and say how sure that is."""
    import numpy as np

    from eal_icnet_jax.imaging import alignment, alignment_report, smooth_maps
    from eal_icnet_jax.system.terminal import warn

    points = None
    if arguments.points:
        points = alignment_report.read_points(arguments.points)
        smooth_maps.check_spread(points[0], str(arguments.points))
        smooth_maps.check_spread(points[1], str(arguments.points))
    try:
        found = alignment.align(reference, moving, arguments.model, arguments.search, points)
    except alignment.NothingFits:
        if points is None:
            raise
        warn(f"{moving.path} shows nothing that clearly fits {reference.path} near the points: the "
             "map is that of the points alone")  # fmt: skip
        found = alignment.from_points(reference.shape, arguments.model, *points)
    height, width = reference.shape
    corners = np.array([[0.0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    lengths = np.hypot(*(found.map(corners) - corners).T)
    print(f"{moving.path} is moved by {lengths.min():.1f} to {lengths.max():.1f} pixels at its "
          "corners")  # fmt: skip
    if np.isnan(found.doubt):
        print("three points do not show how far to trust them: name more")
        return found
    rest = np.percentile(found.unseen, (50, 95))
    print(f"{len(found.points)} places deviate from what the others say by {rest[0]:.2f} pixels in "
          f"the median, 5% of them by over {rest[1]:.2f}")  # fmt: skip
    if rest[1] > WORTH_A_LOOK:
        picture = alignment_report.paths_beside(arguments.output)["picture"]
        warn(f"it is unsure in places: see the orange and red ones in {picture}")
    return found
