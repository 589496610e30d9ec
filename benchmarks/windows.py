"""How a mosaic's prediction depends on its windows: their size, their overlap, where they begin.

    python -m eal_icnet_jax.sample_die die --size=3072
    python benchmarks/windows.py --checkpoint=demo/run --die=die --output=benchmarks/results

For each size and overlap: the same part of the die is predicted from mosaics that begin at other
pixels, so that windows lie elsewhere, and the probabilities are compared where all of them are, a
good way off the edges. A fraction of changed mask pixels is the bound that is stated.
"""

import argparse
import itertools
import pathlib
import time

import numpy as np
from speed import listed, write_results

from eal_icnet_jax import checkpoints, metrics, mosaics, runtime
from eal_icnet_jax.predictor import Predictor
from eal_icnet_jax.windows import Blended

MARGIN = 512
"""Pixels off the edges from which results are compared."""

SHIFTS = (0, 0), (37, 101), (211, 64), (128, 300)


def predicted(predictor, image, channels: int, window: int, overlap: int) -> np.ndarray:
    """Probabilities `[H, W]` of an image `[H, W, C]`, windows beginning at its corner."""
    shape = image.shape[:2]
    mosaic = mosaics.of_array(pathlib.Path("shifted"), image)
    blended = Blended(mosaic, predictor.probabilities, channels, 1, (window, window), overlap)
    (out,) = blended.strips(slice(0, shape[1]), [slice(0, shape[0])])
    return out[..., 0]


def measure(predictor, image, label, channels: int, window: int, overlap: int) -> dict:
    parts = []
    for y, x in SHIFTS:
        start = time.perf_counter()
        shifted = image[y:, x:]
        out = predicted(predictor, shifted, channels, window, overlap)
        seconds = time.perf_counter() - start
        rows, columns = (
            slice(MARGIN - at, size - MARGIN - at)
            for at, size in zip((y, x), image.shape, strict=False)
        )
        parts.append(out[rows, columns])
    inner = label[MARGIN : image.shape[0] - MARGIN, MARGIN : image.shape[1] - MARGIN]
    moved = np.concatenate([np.abs(part - parts[0]).ravel() for part in parts[1:]])
    masks = [part >= 0.5 for part in parts]
    changed = np.mean([np.mean(mask != masks[0]) for mask in masks[1:]])
    found = [metrics.evaluate_masks(inner, mask) for mask in masks]
    counts = [metrics.electrically_significant_differences(inner, mask) for mask in masks]
    return {
        "window": window,
        "overlap": overlap,
        "seconds_per_megapixel": seconds / (shifted.shape[0] * shifted.shape[1] / 1e6),
        "mean": float(moved.mean()),
        "quantile_99": float(np.quantile(moved, 0.99)),
        "largest": float(moved.max()),
        "changed_percent": 100 * float(changed),
        "mIoU": 100 * float(np.mean([one["mIoU"] for one in found])),
        "AJI": 100 * float(np.mean([one["AJI"] for one in found])),
        "opens": float(np.mean([one.opens for one in counts])),
        "shorts": float(np.mean([one.shorts for one in counts])),
    }


def table(rows: list[dict]) -> str:
    lines = [
        f"{'window':>6s} {'overlap':>7s} {'s/Mpx':>6s} {'mean':>7s} {'99%':>6s} {'largest':>7s} "
        f"{'mask %':>6s} {'mIoU':>6s} {'AJI':>6s} {'opens':>6s} {'shorts':>6s}"
    ]
    lines += [
        f"{row['window']:6d} {row['overlap']:7d} {row['seconds_per_megapixel']:6.2f} "
        f"{row['mean']:7.4f} {row['quantile_99']:6.3f} {row['largest']:7.3f} "
        f"{row['changed_percent']:6.2f} {row['mIoU']:6.2f} {row['AJI']:6.2f} "
        f"{row['opens']:6.1f} {row['shorts']:6.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="of one mask")
    parser.add_argument("--die", type=pathlib.Path, required=True, help="of sample_die")
    parser.add_argument("--size", type=int, default=2816, help="pixels of it on a side (2816)")
    sides, shares = [256, 384, 512, 768, 1024], [0.125, 0.25, 0.5]
    parser.add_argument("--windows", type=listed(int), default=sides, help="sides in pixels")
    parser.add_argument("--shares", type=listed(float), default=shares, help="overlaps by window")
    parser.add_argument("--output", type=pathlib.Path, help="folder for windows.txt and .csv")
    arguments = parser.parse_args()
    runtime.configure()
    model = checkpoints.load_model(arguments.checkpoint)
    predictor = Predictor(model)
    channels = dict(model.spec.options)["in_channels"]
    part = slice(0, arguments.size)
    image = mosaics.open_mosaic(arguments.die / "image.ome.tif")[part, part]
    label = mosaics.Mask(mosaics.open_mosaic(arguments.die / "metal.ome.tif"))[part, part]
    rows = []
    for window, share in itertools.product(arguments.windows, arguments.shares):
        rows.append(measure(predictor, image, label, channels, window, round(window * share)))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))
    if arguments.output:
        write_results(arguments.output, "windows", table(rows) + "\n", rows)


if __name__ == "__main__":
    main()
