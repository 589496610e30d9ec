"""How well a turned, scaled and bent layer of a drawn stack is brought over the layer below it.

    python benchmarks/alignment.py --stack STACK [STACK ...] --work=WORK --output=OUT

Each STACK is a folder that `eal-icnet draw die --metals=3` wrote. The photograph of each upper
layer is turned by up to a degree, scaled by up to a percent, shifted, and bent by waves of up to a
period over the die, with three seeds. Writes how far the vias of the layer below are off after
`eal-icnet align`, seconds and peak memory, into alignment.csv and alignment.md.
"""

import argparse
import csv
import itertools
import pathlib

import cv2
import numpy as np
from reporting import run_command, write_table
from tabulate import tabulate

from eal_icnet_jax.datasets.ic_synthetic.scans import Distortion
from eal_icnet_jax.imaging import mosaic_files, moved_mosaic, png
from eal_icnet_jax.imaging.mosaics import Mosaic

HEADINGS = ("size", "layers", "seed", "moved_px", "vias", "within_1_px", "median_px", "p95_px",
            "doubt_px", "seconds", "peak_MB")  # fmt: skip


def whole(mosaic: Mosaic) -> np.ndarray:
    """Return all pixels of a mosaic."""
    height, width = mosaic.shape
    return mosaic[0:height, 0:width]


def measured(stack: pathlib.Path, lower: int, seed: int, work: pathlib.Path) -> tuple:
    """Return the row of a pair of layers."""
    below, above = (stack / f"layer{n}" / "image.ome.tif" for n in (lower, lower + 1))
    image = whole(mosaic_files.open_mosaic(above))
    distortion = Distortion(image.shape[:2], seed)
    png.write(work / "moving.png", distortion.applied(image))
    output = work / "moved.ome.tif"
    figures = run_command("align", below, work / "moving.png", "-o", output, "--force")
    mapped, _ = moved_mosaic.read_map(work / "moved.json")
    vias = whole(mosaic_files.open_mosaic(stack / f"layer{lower}" / "via.ome.tif"))
    _, _, _, middles = cv2.connectedComponentsWithStats((vias > 0).astype(np.uint8))
    found = mapped(middles[1:])
    inside = np.all((found >= 0) & (found <= len(image) - 1), axis=1)
    off = np.hypot(*(distortion(found[inside]) - middles[1:][inside]).T)
    grid = np.stack(np.meshgrid(*[np.linspace(0, len(image) - 1, 50)] * 2), -1).reshape(-1, 2)
    moved = np.hypot(*(distortion(grid) - grid).T).max()
    with (work / "moved_places.csv").open() as file:
        unseen = [float(row["unseen"]) for row in csv.DictReader(file)]
    return (len(image), f"{lower} and {lower + 1}", seed, moved, len(off), 100 * np.mean(off <= 1),
            np.median(off), np.percentile(off, 95), np.median(unseen), figures["seconds"],
            figures["peak_mb"])  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--stack", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="for the moved layers")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="for the table")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for folder in (arguments.work, arguments.output):
        folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for stack in arguments.stack:
        layers = len(list(stack.glob("layer*")))
        for lower, seed in itertools.product(range(1, layers), range(arguments.seeds)):
            rows.append(measured(stack, lower, seed, arguments.work))
            print(*rows[-1], flush=True)
    table = tabulate(rows, HEADINGS, "github", floatfmt=".2f")
    write_table(arguments.output, "alignment", HEADINGS, rows, table)


if __name__ == "__main__":
    main()
