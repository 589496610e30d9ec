"""Nets of drawn stacks of three metals: seconds and memory by size, and what a prediction costs.

    python benchmarks/stack.py --work=WORK --output=OUT [--checkpoint=optical]

Draws a stack of each size, extracts the nets of its exact masks with `eal-icnet nets` in a process
of its own, and counts them against the nets that were drawn. With a checkpoint, the photographs of
the smallest stack are predicted, and the opens and shorts of their nets over all layers counted.
Writes stack.csv and stack.md. What lies in WORK is not drawn or predicted again.
"""

import argparse
import csv
import pathlib

from reporting import run_command, write_table
from tabulate import tabulate

from eal_icnet_jax.evaluation import metrics
from eal_icnet_jax.imaging import mosaic_files
from eal_icnet_jax.imaging.masks import MosaicMask

METALS = 3

HEADINGS = ("size", "regions", "nets_drawn", "nets_found", "seconds", "peak_MB")


def drawn_stack(work: pathlib.Path, size: int) -> pathlib.Path:
    """Return the folder of a drawn stack."""
    folder = work / f"stack{size}"
    if not folder.exists():
        run_command("draw", "die", folder, f"--size={size}", f"--metals={METALS}")
    return folder


def masks_of(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the masks of a drawn stack, from the lowest to the highest."""
    found = {}
    for number in range(1, METALS + 1):
        for kind in ("metal", "via"):
            path = folder / f"layer{number}" / f"{kind}.ome.tif"
            if path.exists():
                found[f"{kind}{number}"] = path
    return found


def extracted(masks: dict[str, pathlib.Path], output: pathlib.Path) -> tuple[int, float, float]:
    """Run `eal-icnet nets`, and return the number of nets, seconds and peak memory in MB."""
    options = [f"--{name}={path}" for name, path in masks.items()]
    figures = run_command("nets", *options, "-o", output, "--force")
    with output.with_suffix(".csv").open() as file:
        nets = sum(1 for _ in csv.reader(file)) - 1
    return nets, figures["seconds"], figures["peak_mb"]


def measured(work: pathlib.Path, size: int) -> tuple:
    """Return the row of a size."""
    folder = drawn_stack(work, size)
    with (folder / "nets.csv").open() as file:
        nets = [row["net"] for row in csv.DictReader(file)]
    found, seconds, memory = extracted(masks_of(folder), work / f"chip{size}.l2n")
    return size, len(nets), len(set(nets)), found, seconds, memory


def predicted_differences(work: pathlib.Path, size: int, checkpoint: str) -> str:
    """Return opens and shorts of the nets of predicted layers."""
    folder, predicted = drawn_stack(work, size), []
    for number in range(1, METALS + 1):
        output = work / f"masks{size}" / f"layer{number}"
        if not output.exists():
            image = folder / f"layer{number}" / "image.ome.tif"
            options = f"--checkpoint={checkpoint}", "--format=tiff"
            run_command("predict", image, "-o", output, *options)
        kinds = ("metal", "via") if number < METALS else ("metal",)
        predicted += [output / f"image_{kind}.ome.tif" for kind in kinds]
    label, prediction = (
        [MosaicMask(mosaic_files.open_mosaic(path)) for path in paths]
        for paths in (masks_of(folder).values(), predicted)
    )
    found = metrics.net_differences(label, prediction).counts
    per_100 = [100 * count / found.nets for count in (found.opens, found.shorts)]
    return (
        f"{checkpoint}, {size}x{size}: {per_100[0]:.1f} opens and {per_100[1]:.1f} shorts per 100 "
        f"of {found.nets} nets over {METALS} layers, {found.false_negatives} missed, "
        f"{found.false_positives} invented"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="for stacks and nets")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="for the table")
    parser.add_argument("--sizes", default="2048,4096,8192,16384")
    parser.add_argument("--checkpoint", help="also predict the smallest stack with it")
    arguments = parser.parse_args()
    for folder in (arguments.work, arguments.output):
        folder.mkdir(parents=True, exist_ok=True)
    sizes = [int(size) for size in arguments.sizes.split(",")]
    rows, notes = [], []
    for size in sizes:
        rows.append(measured(arguments.work, size))
        print(*rows[-1], flush=True)
    if arguments.checkpoint:
        notes.append(predicted_differences(arguments.work, min(sizes), arguments.checkpoint))
        print(notes[-1])
    table = tabulate(rows, HEADINGS, "github", floatfmt=".1f")
    write_table(arguments.output, "stack", HEADINGS, rows, "\n\n".join([table, *notes]))


if __name__ == "__main__":
    main()
