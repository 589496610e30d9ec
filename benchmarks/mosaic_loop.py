"""A die from photograph to masks: `predict` against a plain loop of ONNX Runtime.

    python benchmarks/mosaic_loop.py --work=NEW --output=benchmarks/results --sizes=4096,16384

Draws dies, and predicts each alternately with `eal-icnet predict --scale=1` and with a loop over
the same windows of the same network, written by `eal-icnet export`: read a window, run it, keep its
middle, and at the end write both masks as compressed TIFF. Both are whole processes, from their
start. The loop neither blends windows nor removes specks, writes no pyramid and cannot go on when
it is killed. `loop` is its time over ours, the median of the rounds. Writes mosaic_loop.csv and
mosaic_loop.txt. Needs `pip install onnxruntime` and what `eal-icnet export` needs.
"""

import argparse
import itertools
import pathlib
import statistics

import numpy as np
import tifffile
import zarr
from reporting import comma_separated, machine, run_command, run_python, write_results
from tabulate import tabulate

from eal_icnet_jax.inference.windows import WindowAxis

WINDOW, OVERLAP = 384, 48
"""Side of a window and least overlap in pixels: those of `predict` with the packaged weights."""


def loop(program: pathlib.Path, photograph: pathlib.Path, output: pathlib.Path):
    """Predict a photograph with ONNX Runtime, window by window."""
    import onnxruntime

    session = onnxruntime.InferenceSession(program)
    facts = session.get_modelmeta().custom_metadata_map
    with tifffile.TiffFile(photograph) as file:
        image = zarr.open_array(file.series[0].aszarr(level=0), mode="r")
        coarse = file.series[0].levels[-1].asarray()
        percent = [float(text) for text in facts["stretch_percentiles"].split(", ")]
        levels = np.percentile(coarse, percent, axis=(0, 1)).astype(np.float32)
        names = facts["outputs"].split(", ")
        masks = np.zeros((len(names), *image.shape[:2]), np.uint8)
        margin = OVERLAP // 2
        axes = (WindowAxis.covering(length, WINDOW, OVERLAP) for length in image.shape[:2])
        for top, left in itertools.product(*(axis.starts for axis in axes)):
            part = np.asarray(image[top : top + WINDOW, left : left + WINDOW])
            inputs = {"image": part[None], "black": levels[0], "white": levels[1]}
            (found,) = session.run(["probabilities"], inputs)
            first = [margin if start else 0 for start in (top, left)]
            inner = found[0, first[0] :, first[1] :] >= float(facts["threshold"])
            place = masks[:, top + first[0] : top + WINDOW, left + first[1] : left + WINDOW]
            place[:] = 255 * np.moveaxis(inner, -1, 0)
    for name, mask in zip(names, masks, strict=True):
        path = output / f"{name}.tif"
        tifffile.imwrite(path, mask, tile=(512, 512), compression="zlib", bigtiff=True)


def agreement(ours: pathlib.Path, output: pathlib.Path) -> float:
    """Return the part of pixels at which two masks are the same."""
    first, second = (tifffile.imread(path) > 0 for path in (ours, output))
    return float(np.mean(first == second))


def measure(size: int, work: pathlib.Path, program: pathlib.Path, rounds: int) -> dict:
    """Return the figures of a die of one size."""
    die = work / f"die{size}"
    run_command("draw", "die", die, f"--size={size}")
    photograph = die / "image.ome.tif"
    found = {"ours": [], "loop": []}
    for k in range(rounds):
        ours, theirs = work / f"ours{size}_{k}", work / f"loop{size}_{k}"
        found["ours"].append(run_command(
            "predict", photograph, "-o", ours, "--checkpoint=optical", "--scale=1",
            "--format=tiff",
        ))  # fmt: skip
        theirs.mkdir()
        found["loop"].append(run_python(__file__, "--loop", program, photograph, theirs))
    same = agreement(next(ours.glob("image_metal*")), theirs / "metal.tif")
    ratios = [
        b["seconds"] / a["seconds"] for a, b in zip(found["ours"], found["loop"], strict=True)
    ]
    row = {"size": size}
    for name, runs in found.items():
        row[f"{name}_seconds"] = f"{statistics.median(run['seconds'] for run in runs):.1f}"
        row[f"{name}_peak_mb"] = f"{statistics.median(run['peak_mb'] for run in runs):.0f}"
    return row | {"loop": f"{statistics.median(ratios):.2f}", "same_pixels": f"{100 * same:.2f}%"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--loop", type=pathlib.Path, nargs=3, help=argparse.SUPPRESS)
    add("--work", type=pathlib.Path, help="new folder for dies and masks")
    add("--output", type=pathlib.Path, help="for the table")
    add(
        "--sizes",
        type=comma_separated(int),
        default=[4096],
        help="of the dies in pixels, at least 2048",
    )
    add("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.loop:
        loop(*arguments.loop)
        return
    if not arguments.work or not arguments.output:
        parser.error("name --work and --output")
    work = arguments.work.absolute()
    work.mkdir(parents=True)
    program = work / "optical.onnx"
    run_command("export", "optical", program, f"--size={WINDOW}")
    rows = [measure(size, work, program, arguments.rounds) for size in arguments.sizes]
    text = f"{machine()}\n\n{tabulate(rows, 'keys', disable_numparse=True)}\n"
    print(text)
    write_results(arguments.output, "mosaic_loop", text, rows)


if __name__ == "__main__":
    main()
