"""Measure a whole die from photograph to layout: time, memory and errors against the drawn metal.

    eal-icnet draw die die
    python benchmarks/mosaic.py --checkpoint=demo/run --die=die --work=work --output=results

Predicts the die's image with `predict --layout=metal.gds` in a process whose memory is measured,
writes the drawn metal as GDSII with `layout`, reads both files with KLayout, and compares them:
area, wires, opens and shorts. The picture shows the whole die, a part of it, and the part's layout.
"""

import argparse
import json
import pathlib

import cv2
import klayout.db as kdb
import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from reporting import run_command

from eal_icnet_jax.evaluation import electrical, metrics
from eal_icnet_jax.imaging import mosaic_files, mosaics
from eal_icnet_jax.imaging.masks import MosaicMask

Polygons = list[shapely.Polygon]


def read_metal(path: pathlib.Path, height: int, pixel_size: float) -> tuple[Polygons, float]:
    """Read the metal of a layout.

    Args:
      path: of the layout file.
      height: of the image in pixels.
      pixel_size: in micrometres.

    Returns:
      The merged polygons in pixels, y downwards, and their area in pixels.
    """
    layout = kdb.Layout()
    layout.read(str(path))
    region = kdb.Region(layout.top_cell().begin_shapes_rec(layout.layer(1, 0)))
    region.merge()
    pixel = pixel_size / layout.dbu

    def in_pixels(points):
        return [(point.x / pixel, height - point.y / pixel) for point in points]

    polygons = [
        shapely.Polygon(
            in_pixels(polygon.each_point_hull()),
            [in_pixels(polygon.each_point_hole(k)) for k in range(polygon.holes())],
        )
        for polygon in region.each()
    ]
    return polygons, region.area() / pixel**2


def mean_iou(label: MosaicMask, mask: MosaicMask) -> float:
    """Return the mIoU of two large masks in percent, read by strips."""
    counts = np.zeros(4, np.int64)
    for rows in mosaics.slices_of(label.shape[0], 2048):
        part = rows, slice(0, label.shape[1])
        counts += np.bincount((2 * label[part] + mask[part]).ravel(), minlength=4)
    tn, fp, fn, tp = counts
    return 50 * (tp / (tp + fp + fn) + tn / (tn + fp + fn))


def compare(die: pathlib.Path, work: pathlib.Path) -> tuple[dict, Polygons, Polygons]:
    """Compare the predicted metal with the drawn metal. Returns figures, drawn and predicted."""
    image = mosaic_files.open_mosaic(die / "image.ome.tif")
    height, pixel_size = image.shape[0], image.pixel_size[0]
    drawn, drawn_area = read_metal(work / "drawn.gds", height, pixel_size)
    predicted, predicted_area = read_metal(work / "metal.gds", height, pixel_size)
    pixels = np.prod(image.shape)
    paths = die / "metal.ome.tif", work / "image.ome.tif"
    masks = [MosaicMask(mosaic_files.open_mosaic(path)) for path in paths]
    faults = metrics.electrically_significant_differences(drawn, predicted, size=image.shape)
    figures = {
        "drawn": {"wires": len(drawn), "area_percent": 100 * drawn_area / pixels},
        "metal": {"wires": len(predicted), "area_percent": 100 * predicted_area / pixels},
        "electrical": vars(faults),
        "mIoU": mean_iou(*masks),
    }
    return figures, drawn, predicted


def _draw_die(axis: Axes, image: mosaics.Mosaic, box: Rectangle):
    """Draw the whole die, reduced by strips, and the box of the part that is shown."""
    step = max(1, image.shape[0] // 1500)
    strips = [
        cv2.resize(
            image[rows, 0 : image.shape[1]],
            None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA,
        )
        for rows in mosaics.slices_of(image.shape[0], 128 * step)
    ]  # fmt: skip
    extent = (0, image.shape[1], image.shape[0], 0)
    axis.imshow(np.concatenate(strips), cmap="gray", extent=extent)
    axis.add_patch(box)
    axis.set_title(f"{image.shape[1]:,} x {image.shape[0]:,} pixels")


def _draw_layout(axis: Axes, drawn: Polygons, predicted: Polygons, area: shapely.Polygon):
    """Draw the predicted wires of an area, in the colour of their fault."""
    predicted = [polygon for polygon in predicted if polygon.area >= electrical.MIN_WIRE_AREA]
    matching = electrical.match_polygons(drawn, predicted, None, 0, None)
    nets = matching.nets_per_wire()
    colours = np.where(matching.is_part_of_open(), "#0072B2", "#4d4d4d")
    colours[nets > 1], colours[nets == 0] = "#D55E00", "#E69F00"
    patches, patch_colours = [], []
    for polygon, colour in zip(predicted, colours, strict=True):
        if polygon.intersects(area):
            rings = (polygon.exterior, *polygon.interiors)
            path = Path.make_compound_path(*(Path(np.asarray(ring.coords)) for ring in rings))
            patches.append(PathPatch(path))
            patch_colours.append(colour)
    axis.add_collection(PatchCollection(patches, facecolors=patch_colours, edgecolor="none"))
    axis.set_title("layout; open nets blue, shorts orange, false wires yellow")


def draw(
    path: pathlib.Path,
    image: mosaics.Mosaic,
    drawn: Polygons,
    predicted: Polygons,
    part: tuple[int, int, int],
):
    """Draw the die, a part of it, and the part's layout with its faults in colour.

    Args:
      path: of the picture.
      image: of the die.
      drawn, predicted: metal in pixels.
      part: x, y and side of the part in pixels.
    """
    x, y, size = part
    figure = Figure(figsize=(15, 5.4), layout="constrained")
    whole, detail, layout = figure.subplots(1, 3)
    _draw_die(whole, image, Rectangle((x, y), size, size, fill=False, color="w", linewidth=2))
    pixels = image[y : y + size, x : x + size]
    detail.imshow(pixels, cmap="gray", extent=(x, x + size, y + size, y))
    detail.set_title(f"{size} x {size} of them")
    _draw_layout(layout, drawn, predicted, shapely.box(x, y, x + size, y + size))
    layout.set(xlim=(x, x + size), ylim=(y + size, y), aspect="equal")
    for axis in (whole, detail, layout):
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="of a network with one mask, metal")
    add("--die", type=pathlib.Path, required=True, help="folder of `eal-icnet draw die`")
    add("--work", type=pathlib.Path, required=True, help="new folder for masks and layouts")
    add("--name", default="mosaic", help="name of the results (mosaic)")
    add("--output", type=pathlib.Path, help="folder for NAME.json and NAME.jpg")
    add("--part", type=int, nargs=3, default=(4096, 4096, 1500), help="x, y and size to show")
    add("--more", nargs="*", default=[], help="options of predict, without their dashes")
    arguments = parser.parse_args()
    die, work = arguments.die, arguments.work
    work.mkdir(parents=True)
    image = mosaic_files.open_mosaic(die / "image.ome.tif")
    results = {"shape": image.shape, "pixel_size": image.pixel_size[0]}
    results["predict"] = run_command(
        "predict", image.path, f"--output={work}", f"--checkpoint={arguments.checkpoint}",
        f"--layout={work / 'metal.gds'}", *(f"--{option}" for option in arguments.more),
    )  # fmt: skip
    results["layout"] = run_command(
        "layout", die / "metal.ome.tif", f"--output={work / 'drawn.gds'}"
    )
    figures, drawn, predicted = compare(die, work)
    text = json.dumps(results | figures, indent=1, default=float)
    print(text)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / f"{arguments.name}.json").write_text(text + "\n")
        path = arguments.output / f"{arguments.name}.jpg"
        draw(path, image, drawn, predicted, tuple(arguments.part))


if __name__ == "__main__":
    main()
