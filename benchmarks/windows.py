"""Measure how a mosaic's prediction depends on its windows: their size, overlap and position.

    eal-icnet draw die die --size=3072
    python benchmarks/windows.py --checkpoint=demo/run --die=die --output=benchmarks/results

For each size and overlap, the same part of the die is predicted from mosaics that begin at
different pixels, so that the windows lie elsewhere. The probabilities are compared where all of
them exist, away from the edges. The fraction of mask pixels that change is the stated bound.
"""

import argparse
import itertools
import pathlib
import time

import numpy as np
from reporting import comma_separated, write_results
from tabulate import tabulate

from eal_icnet_jax.evaluation import metrics
from eal_icnet_jax.imaging import mosaic_files, mosaics
from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.inference.windows import BlendedWindows
from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system import jax_settings

MARGIN = 512
"""Distance in pixels from the edges within which results are not compared."""

SHIFTS = (0, 0), (37, 101), (211, 64), (128, 300)
"""First row and column of each mosaic."""


def predict(predictor: Predictor, image, channels: int, window: int, overlap: int) -> np.ndarray:
    """Return the probabilities `[H, W]` of an image `[H, W, C]`, with windows from its corner."""
    height, width = image.shape[:2]
    mosaic = mosaics.mosaic_from_array(pathlib.Path("shifted"), image)
    size = window, window
    blended = BlendedWindows(mosaic, predictor.probabilities, channels, 1, size, overlap)
    (probabilities,) = blended.strips(slice(0, width), [slice(0, height)])
    return probabilities[..., 0]


def measure(predictor: Predictor, image, label, channels: int, window: int, overlap: int) -> dict:
    """Compare the predictions of all shifts. Returns a row of figures."""
    parts = []
    for y, x in SHIFTS:
        shifted = image[y:, x:]
        start = time.perf_counter()
        probabilities = predict(predictor, shifted, channels, window, overlap)
        seconds = time.perf_counter() - start
        rows, columns = (
            slice(MARGIN - first, size - MARGIN - first)
            for first, size in zip((y, x), image.shape, strict=False)
        )
        parts.append(probabilities[rows, columns])
    inner = label[MARGIN : image.shape[0] - MARGIN, MARGIN : image.shape[1] - MARGIN]
    differences = np.concatenate([np.abs(part - parts[0]).ravel() for part in parts[1:]])
    masks = [part >= 0.5 for part in parts]
    comparisons = [metrics.MaskComparison(inner, mask) for mask in masks]
    scores = [comparison.metrics() for comparison in comparisons]
    faults = [comparison.differences() for comparison in comparisons]
    return {
        "window": window,
        "overlap": overlap,
        "seconds_per_megapixel": seconds / (shifted.shape[0] * shifted.shape[1] / 1e6),
        "mean": float(differences.mean()),
        "quantile_99": float(np.quantile(differences, 0.99)),
        "largest": float(differences.max()),
        "changed_percent": 100 * float(np.mean([np.mean(m != masks[0]) for m in masks[1:]])),
        "mIoU": 100 * float(np.mean([score["mIoU"] for score in scores])),
        "AJI": 100 * float(np.mean([score["AJI"] for score in scores])),
        "opens": float(np.mean([fault.opens for fault in faults])),
        "shorts": float(np.mean([fault.shorts for fault in faults])),
    }


def table(rows: list[dict]) -> str:
    """Return the rows as aligned text."""
    headings = ("window", "overlap", "s/Mpx", "mean", "99%", "largest", "mask %", "mIoU", "AJI",
                "opens", "shorts")  # fmt: skip
    formats = ("d", "d", ".2f", ".4f", ".3f", ".3f", ".2f", ".2f", ".2f", ".1f", ".1f")
    return tabulate([row.values() for row in rows], headings, floatfmt=formats)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="of a network with one mask")
    add("--die", type=pathlib.Path, required=True, help="folder of `eal-icnet draw die`")
    add("--size", type=int, default=2816, help="side of the part that is read, in pixels (2816)")
    sides, shares = [256, 384, 512, 768, 1024], [0.125, 0.25, 0.5]
    add("--windows", type=comma_separated(int), default=sides, help="sides in pixels")
    add("--shares", type=comma_separated(float), default=shares, help="overlaps in windows")
    add("--output", type=pathlib.Path, help="folder for windows.txt and windows.csv")
    arguments = parser.parse_args()
    jax_settings.configure()
    model = checkpoints.load_model(arguments.checkpoint)
    predictor = Predictor(model)
    channels = dict(model.spec.options)["in_channels"]
    part = slice(0, arguments.size), slice(0, arguments.size)
    image = mosaic_files.open_mosaic(arguments.die / "image.ome.tif")[part]
    label = MosaicMask(mosaic_files.open_mosaic(arguments.die / "metal.ome.tif"))[part]
    rows = []
    for window, share in itertools.product(arguments.windows, arguments.shares):
        rows.append(measure(predictor, image, label, channels, window, round(window * share)))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))
    if arguments.output:
        write_results(arguments.output, "windows", table(rows) + "\n", rows)


if __name__ == "__main__":
    main()
