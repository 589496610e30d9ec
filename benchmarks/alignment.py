"""How well a turned, scaled and bent layer of a drawn stack is brought over the layer below it.

    python benchmarks/alignment.py --stack=STACK --work=WORK --output=OUT

STACK is a folder that `eal-icnet draw die --metals=3` wrote. The photograph of each upper layer is
turned by up to a degree, scaled by up to a percent, shifted, and bent by waves of up to a period
over the die, with three seeds. Writes how far the vias of the layer below are off after `eal-icnet
align`, seconds and peak memory, into alignment.csv and alignment.md.
"""

import argparse
import csv
import pathlib

import cv2
import numpy as np
from reporting import run_command
from tabulate import tabulate

from eal_icnet_jax.imaging import mosaic_files, moved_mosaic, png
from eal_icnet_jax.imaging.mosaics import Mosaic

HEADINGS = ("layers", "seed", "moved_px", "vias", "within_1_px", "median_px", "p95_px", "doubt_px",
            "seconds", "peak_MB")  # fmt: skip


class Distortion:
    """Turned, scaled, shifted and bent: from pixels of the moved image to those of the layer."""

    def __init__(self, size: int, seed: int):
        rng = np.random.default_rng(seed)
        self.size = size
        farthest = 0.7 * size
        self.turn = rng.uniform(-1, 1) * np.radians(min(1.0, np.degrees(10 / farthest)))
        self.scale = 1 + rng.uniform(-1, 1) * min(0.01, 8 / farthest)
        self.shift = rng.uniform(-6, 6, 2)
        self.height = rng.uniform(6, 12, (2, 2))
        self.wave = rng.uniform(0.3, 1, (2, 4)) * 2 * np.pi / size
        self.phase = rng.uniform(0, 2 * np.pi, (2, 4))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return where points (x, y) of the moved image lie in the layer, `[N, 2]`."""
        middle = self.size / 2
        x, y = (np.asarray(points, float) - middle).T
        cos, sin = self.scale * np.cos(self.turn), self.scale * np.sin(self.turn)
        out = np.stack([cos * x - sin * y, sin * x + cos * y], -1) + middle + self.shift
        for height, wave, phase in zip(self.height, self.wave, self.phase, strict=True):
            across = np.sin(wave[0] * y + phase[0]) * np.cos(wave[1] * x + phase[1])
            down = np.sin(wave[2] * x + phase[2]) * np.cos(wave[3] * y + phase[3])
            out += np.stack([height[0] * across, height[1] * down], -1)
        return out

    def applied(self, image: np.ndarray) -> np.ndarray:
        """Return an image as it is moved."""
        rows = np.arange(self.size, dtype=float)
        out = np.zeros_like(image)
        for start in range(0, self.size, 512):
            part = rows[start : start + 512]
            grid = np.stack(np.meshgrid(rows, part), -1)
            at = self(grid.reshape(-1, 2)).reshape(grid.shape).astype(np.float32)
            for left in range(0, self.size, 16384):
                here = at[:, left : left + 16384]
                out[start : start + 512, left : left + 16384] = cv2.remap(
                    image, np.ascontiguousarray(here), None, cv2.INTER_LINEAR
                )
        return out


def whole(mosaic: Mosaic) -> np.ndarray:
    """Return all pixels of a mosaic."""
    height, width = mosaic.shape
    return mosaic[0:height, 0:width]


def measured(stack: pathlib.Path, lower: int, seed: int, work: pathlib.Path) -> tuple:
    """Return the row of a pair of layers."""
    below, above = (stack / f"layer{n}" / "image.ome.tif" for n in (lower, lower + 1))
    image = whole(mosaic_files.open_mosaic(above))
    distortion = Distortion(len(image), seed)
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
    return (f"{lower} and {lower + 1}", seed, moved, len(off), 100 * np.mean(off <= 1),
            np.median(off), np.percentile(off, 95), np.median(unseen), figures["seconds"],
            figures["peak_mb"])  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--stack", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="for the moved layers")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="for the table")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for folder in (arguments.work, arguments.output):
        folder.mkdir(parents=True, exist_ok=True)
    layers = len(list(arguments.stack.glob("layer*")))
    rows = []
    for lower in range(1, layers):
        for seed in range(arguments.seeds):
            rows.append(measured(arguments.stack, lower, seed, arguments.work))
            print(*rows[-1], flush=True)
    with (arguments.output / "alignment.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADINGS)
        writer.writerows(rows)
    table = tabulate(rows, HEADINGS, "github", floatfmt=".2f")
    (arguments.output / "alignment.md").write_text(table + "\n")


if __name__ == "__main__":
    main()
