"""A whole die, from its photograph to its layout, against what was drawn: cost and errors.

    python -m eal_icnet_jax.sample_die die
    python benchmarks/mosaic.py --checkpoint=demo/run --die=die --work=work --output=results

Predicts the die's image with `predict --layout=metal.gds`, in a process whose memory is watched,
writes the drawn metal as GDSII by `layout`, opens both with KLayout, and compares them: area,
wires, opens and shorts. The picture shows the whole die, a part of it, and that part's layout.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import cv2
import klayout.db as kdb
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import shapely
from matplotlib.collections import PatchCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from eal_icnet_jax import electrical, metrics, mosaics


def run(*command) -> dict:
    """Runs a command of the package; its seconds, and peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *map(str, command)])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"error: {command[0]} ended with {process.returncode}")
    return {"seconds": time.perf_counter() - start, "peak_mb": used.ru_maxrss / 1e3}


def opened(
    path: pathlib.Path, height: int, pixel_size: float
) -> tuple[list[shapely.Polygon], float]:
    """The metal of a layout: merged polygons in pixels, y downwards, and its area in pixels."""
    layout = kdb.Layout()
    layout.read(str(path))
    region = kdb.Region(layout.top_cell().begin_shapes_rec(layout.layer(1, 0)))
    region.merge()
    pixel = pixel_size / layout.dbu
    polygons = []
    for polygon in region.each():
        outer = [(point.x / pixel, height - point.y / pixel) for point in polygon.each_point_hull()]
        holes = [
            [(point.x / pixel, height - point.y / pixel) for point in polygon.each_point_hole(k)]
            for k in range(polygon.holes())
        ]
        polygons.append(shapely.Polygon(outer, holes))
    return polygons, region.area() / pixel**2


def draw(path, image, polygons, differences, part: tuple[int, int, int]):
    """The die, a part of it, and the part's layout with what is wrong in colour."""
    x, y, size = part
    box = shapely.box(x, y, x + size, y + size)
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.4), layout="constrained")
    step = max(1, image.shape[0] // 1500)
    band = 128 * step
    bands = [
        cv2.resize(
            image[top : top + band, 0 : image.shape[1]],
            None,
            fx=1 / step,
            fy=1 / step,
            interpolation=cv2.INTER_AREA,
        )
        for top in range(0, image.shape[0], band)
    ]
    axes[0].imshow(np.concatenate(bands), cmap="gray")
    corner = plt.Rectangle(
        (x / step, y / step), size / step, size / step, fill=False, color="w", linewidth=2
    )
    axes[0].add_patch(corner)
    axes[0].set_title(f"{image.shape[1]:,} x {image.shape[0]:,} pixels")
    axes[1].imshow(
        image[y : y + size, x : x + size], cmap="gray", extent=(x, x + size, y + size, y)
    )
    axes[1].set_title(f"{size} x {size} of them")
    opens, shorts, false = differences
    for shapes, colour in (
        ([p for k, p in enumerate(polygons) if k not in opens | shorts | false], "#4d4d4d"),
        ([polygons[k] for k in opens], "#0072B2"),
        ([polygons[k] for k in shorts], "#D55E00"),
        ([polygons[k] for k in false], "#E69F00"),
    ):
        patches = [
            PathPatch(
                Path.make_compound_path(
                    *(Path(np.asarray(r.coords)) for r in (p.exterior, *p.interiors))
                )
            )
            for p in shapes
            if p.intersects(box)
        ]
        axes[2].add_collection(PatchCollection(patches, facecolor=colour, edgecolor="none"))
    axes[2].set(xlim=(x, x + size), ylim=(y + size, y), aspect="equal")
    axes[2].set_title("layout; open nets blue, shorts orange, false wires yellow")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--checkpoint", required=True, help="of one mask, metal")
    add("--die", type=pathlib.Path, required=True, help="of sample_die")
    add("--work", type=pathlib.Path, required=True, help="folder for masks and layouts, new")
    add("--name", default="mosaic", help="of the results (mosaic)")
    add("--output", type=pathlib.Path, help="folder for NAME.json and NAME.jpg")
    add("--part", type=int, nargs=3, default=(4096, 4096, 1500), help="x, y and size to show")
    add("--more", nargs="*", default=[], help="options of predict, without their dashes")
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True)
    image = mosaics.open_mosaic(arguments.die / "image.ome.tif")
    height, pixel_size = image.shape[0], image.pixel_size[0]
    told = {"shape": image.shape, "pixel_size": pixel_size}
    told["predict"] = run(
        "eal_icnet_jax.predict", f"--checkpoint={arguments.checkpoint}",
        f"--input={image.path}", f"--output={work}", f"--layout={work / 'metal.gds'}",
        *(f"--{option}" for option in arguments.more),
    )  # fmt: skip
    told["layout"] = run(
        "eal_icnet_jax.layout", f"--metal={arguments.die / 'metal.ome.tif'}",
        f"--output={work / 'drawn.gds'}",
    )  # fmt: skip
    shapes = {name: opened(work / f"{name}.gds", height, pixel_size) for name in ("drawn", "metal")}
    for name, (polygons, area) in shapes.items():
        told[name] = {"wires": len(polygons), "area_percent": 100 * area / np.prod(image.shape)}
    (drawn, _), (found, _) = shapes["drawn"], shapes["metal"]
    differences = metrics.electrically_significant_differences(drawn, found, size=image.shape)
    told["electrical"] = vars(differences)
    masks = [arguments.die / "metal.ome.tif", work / "image.ome.tif"]
    label, mask = (mosaics.Mask(mosaics.open_mosaic(path)) for path in masks)
    hits = np.zeros(4, np.int64)
    for rows in mosaics.pieces(height, 2048):
        part = rows, slice(0, image.shape[1])
        hits += np.bincount((2 * label[part] + mask[part]).ravel(), minlength=4)
    tn, fp, fn, tp = hits
    told["mIoU"] = 50 * (tp / (tp + fp + fn) + tn / (tn + fp + fn))
    print(json.dumps(told, indent=1, default=float))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(told, indent=1, default=float) + "\n"
        (arguments.output / f"{arguments.name}.json").write_text(text)
        found = [polygon for polygon in found if polygon.area >= electrical.SMALLEST]
        matching = electrical.match_polygons(drawn, found, None, 0, None)
        of_wire = matching.nets_of_wires()
        shorts = set(np.flatnonzero(of_wire > 1))
        opens = set(np.flatnonzero(matching.opened())) - shorts
        wrong = opens, shorts, set(np.flatnonzero(of_wire == 0))
        path = arguments.output / f"{arguments.name}.jpg"
        draw(path, image, found, wrong, tuple(arguments.part))


if __name__ == "__main__":
    main()
