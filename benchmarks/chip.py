"""The whole way from tiles of three layers to nets, on a drawn stack.

    python benchmarks/chip.py --work=NEW

Runs the commands of docs/chip.md in NEW and prints them with their output. Where a person would
correct the prediction, the drawn metal stands in for one: the largest place where the predicted
metal of the lowest layer opens or shorts a net is painted as it was drawn. Writes nets.png, a
picture of the nets as KLayout shows them.
"""

import argparse
import pathlib
import shlex
import subprocess
import sys
import time

import cv2
import numpy as np

from eal_icnet_jax.imaging import mosaic_files, mosaic_writing
from eal_icnet_jax.imaging.mosaics import mosaic_from_array
from eal_icnet_jax.netlist import golden
from eal_icnet_jax.netlist.registration import register

METALS, SIZE, SEED = 3, 2048, 0

COLOURS = {1: 0x0072B2, 2: 0x000000, 3: 0xE69F00, 4: 0x444444, 5: 0x009E73}
"""Of metal 1, via 1, metal 2, via 2 and metal 3 in the picture (Okabe and Ito)."""

BORDER = 50
"""Distance in pixels from the border of the die at which faults may come from what is cut off."""

MARGIN = 8
"""Distance in pixels around a fault that is painted anew."""


def run(work: pathlib.Path, command: str):
    """Print an `eal-icnet` command and its output; end the program if it fails."""
    print(f"$ eal-icnet {command}", flush=True)
    arguments = [sys.executable, "-m", "eal_icnet_jax", *shlex.split(command)]
    if subprocess.run(arguments, cwd=work, stderr=subprocess.STDOUT).returncode:
        raise SystemExit(f"error: eal-icnet {command.split()[0]} failed")


def correct_one_fault(work: pathlib.Path, drawn: pathlib.Path, predicted: str) -> str:
    """Paint the largest place that changes a net as it was drawn, and say what it was."""
    path = work / predicted
    sides = [golden.read_side(mask, None, 0.1) for mask in (drawn, path)]
    registration = register(*(side.masks["metal"] for side in sides))
    height, width = sides[0].masks["metal"].shape
    faults = [
        fault
        for fault in golden.find_differences(sides[0], golden.laid_over(*sides, registration))
        if fault.effects
        and min(fault.box) > BORDER
        and fault.box[2] < width - BORDER
        and fault.box[3] < height - BORDER
    ]
    if not faults:
        return "nothing to correct: no difference changes a net"
    fault = max(faults, key=lambda fault: fault.missing + fault.added)
    left, top, right, bottom = fault.box
    corners = np.array([[left - MARGIN, top - MARGIN, 1], [right + MARGIN, bottom + MARGIN, 1]])
    ends = np.sort(np.rint(corners @ registration.matrix.T).astype(int), axis=0).clip(0)
    mosaic = mosaic_files.open_mosaic(path)
    mask = mosaic[0 : mosaic.shape[0], 0 : mosaic.shape[1]].copy()
    true = cv2.warpAffine(sides[0].masks["metal"].astype(np.uint8), registration.matrix,
                          mask.shape[::-1], flags=cv2.INTER_NEAREST)  # fmt: skip
    part = slice(ends[0, 1], ends[1, 1] + 1), slice(ends[0, 0], ends[1, 0] + 1)
    mask[part] = 255 * true[part]
    corrected = mosaic_from_array(path, mask, pixel_size=mosaic.pixel_size)
    mosaic_writing.write_ome_tiff(path, corrected)
    return (f"corrected by hand: {', '.join(fault.effects)} at x {ends[0, 0]} to {ends[1, 0]}, y "
            f"{ends[0, 1]} to {ends[1, 1]} of {predicted}")  # fmt: skip


def picture(layout: pathlib.Path, path: pathlib.Path):
    """Write a picture of a part of a layout, as KLayout shows it."""
    import klayout.db as kdb
    import klayout.lay as lay

    view = lay.LayoutView()
    view.load_layout(str(layout), True)
    view.max_hier()
    for name, value in {"background-color": "#ffffff", "text-visible": "true", "text-font": "0",
                        "grid-visible": "false", "default-text-size": "1.2"}.items():  # fmt: skip
        view.set_config(name, value)
    entry = view.begin_layers()
    while not entry.at_end():
        style = entry.current().dup()
        style.fill_color = style.frame_color = COLOURS[style.source_layer]
        style.dither_pattern = {1: 9, 2: 0, 3: 5, 4: 0, 5: 3}[style.source_layer]
        view.set_layer_properties(entry, style)
        entry.next()
    view.zoom_box(kdb.DBox(95, 60, 150, 90))
    view.save_image(str(path), 1100, 600)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="new folder")
    work = parser.parse_args().work
    if work.exists():
        raise SystemExit(f"error: {work} exists: remove it, or name another folder")
    work.mkdir(parents=True)
    start = time.perf_counter()
    run(work, f"draw die stack --size={SIZE} --metals={METALS} --seed={SEED}")
    run(work, "draw scans stack scans --tile=752 --seed=1")
    for number in range(1, METALS + 1):
        run(work, f"stitch scans/layer{number} --tiles=tile_{{row}}_{{column}}.png "
                  f"--tile-overlap=15 -o layer{number}.ome.tif")  # fmt: skip
    names = ["layer1"]
    for number in range(2, METALS + 1):
        names.append(f"fitted{number}")
        run(work, f"align {names[-2]}.ome.tif layer{number}.ome.tif -o {names[-1]}.ome.tif")
    for name in names:
        run(work, f"predict {name}.ome.tif -o masks --format=tiff")
    layers = []
    for number, name in enumerate(names, 1):
        layers.append(f"--metal{number}=masks/{name}_metal.ome.tif")
        if number < METALS:
            layers.append(f"--via{number}=masks/{name}_via.ome.tif")
    nets = f"nets {' '.join(layers)}"
    run(work, f"{nets} -o before.l2n")
    drawn = work / "stack" / "layer1" / "metal.ome.tif"
    print(correct_one_fault(work, drawn, "masks/layer1_metal.ome.tif"))
    run(work, f"{nets} -o chip.l2n --degate=degate")
    picture(work / "chip.gds", work / "nets.png")
    print(f"{time.perf_counter() - start:.0f} s; KLayout shows {work / 'chip.gds'}, and its "
          f"netlist browser {work / 'chip.l2n'}")  # fmt: skip


if __name__ == "__main__":
    main()
