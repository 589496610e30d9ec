"""How soon the review page shows pixels after it is moved, on a drawn die of 16384x16384 pixels.

    python benchmarks/review_page.py --work=WORK

Draws the die, and makes a prediction of its masks in the form of `eal-icnet review-list`, with
wires joined by mistake, because a real prediction would take long and says nothing about the page.
Then opens the page in Chromium, drags the view to a new place 50 times, nearly by its width or
height, and prints the median and the largest time until the photograph of the new view is there.
Needs the package playwright and Debian's chromium.
"""

import argparse
import itertools
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

from eal_icnet_jax.imaging import mosaic_files, pyramid
from eal_icnet_jax.imaging.mosaics import Mosaic, blocks
from eal_icnet_jax.review.page import HEIGHT, WIDTH
from eal_icnet_jax.review.places import square_around
from eal_icnet_jax.system.files import MADE_BY

IS_COVERED = """
() => {
  const model = Bokeh.documents[0].get_model_by_name('photograph')
  const figure = Bokeh.documents[0].get_model_by_name('view')
  const [x] = model.data.x, [y] = model.data.y, [dw] = model.data.dw, [dh] = model.data.dh
  const across = figure.x_range, up = figure.y_range
  const left = Math.max(across.start, 0), right = Math.min(across.end, SIDE)
  const low = Math.max(up.start, 0), high = Math.min(up.end, SIDE)
  const slack = 2 * dw / WIDTH
  return x <= left + slack && x + dw >= right - slack && y <= low + slack && y + dh >= high - slack
}
"""
"""Whether the photograph on the page reaches to the ends of the view."""


def gap_beside(metal: Mosaic, left: int, top: int) -> tuple[slice, slice] | None:
    """Return rows and columns of ground between two wires, near a place of a drawn die."""
    part = metal[top : top + 512, left : left + 512] > 0
    for row in range(8, len(part) - 8, 8):
        rows = part[row - 8 : row + 8]
        ends = np.flatnonzero(np.diff(part[row].astype(int)))
        for first, last in itertools.pairwise(ends + 1):
            is_ground = 8 <= last - first <= 100 and not rows[:, first:last].any()
            if is_ground and rows[:, first - 2].all() and rows[:, last + 1].all():
                return slice(top + row - 4, top + row + 4), slice(left + first, left + last)
    return None


def write_prediction(folder: pathlib.Path, die: pathlib.Path):
    """Write maps of the die's masks as a prediction, with 20 shorts as its places."""
    folder.mkdir(parents=True)
    metal = mosaic_files.open_mosaic(die / "metal.ome.tif")
    side = min(metal.shape)
    corners = ([step * k % (side - 1024) for step in (700, 1300)] for k in range(1, 500))
    gaps = (gap_beside(metal, *corner) for corner in corners)
    shorts = list(itertools.islice((gap for gap in gaps if gap), 20))
    for output in ("metal", "via"):
        mask = mosaic_files.open_mosaic(die / f"{output}.ome.tif")
        groups = {
            kind: pyramid.create_pyramid(
                folder / f"image_{output}{kind}.zarr", output, mask.shape, dtype, None
            )
            for kind, dtype in (("", np.dtype(np.uint8)), ("_uncertainty", np.dtype(np.uint16)))
        }
        for rows, columns in blocks(mask.shape):
            values = np.where(mask[rows, columns] > 0, 255, 0).astype(np.uint8)
            groups[""]["0"][rows, columns] = values
            groups["_uncertainty"]["0"][rows, columns] = 65535 - 257 * values.astype(np.uint16)
        if output == "metal":
            for short in shorts:
                groups[""]["0"][short] = 255
        for group in groups.values():
            pyramid.fill_levels(group)
    places = []
    for rank, (rows, columns) in enumerate(shorts, 1):
        x, y = int(columns.start + columns.stop) // 2, (rows.start + rows.stop) // 2
        square = square_around(x, y, 128, metal.shape)
        places.append({
            "rank": rank, "kind": "short", "output": "metal", "x": x, "y": y,
            "left": square[1].start, "top": square[0].start, "width": 128, "height": 128,
        })  # fmt: skip
    report = {"software": MADE_BY.decode(), "places": places}
    (folder / "places.json").write_text(json.dumps(report))


def measure(address: str, photograph: Mosaic, moves: int) -> list[float]:
    """Return the seconds from the end of each drag until the new view is covered."""
    from playwright.sync_api import sync_playwright

    side = photograph.shape[0]
    covered = IS_COVERED.replace("SIDE", str(side)).replace("WIDTH", str(WIDTH))
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1320, "height": 860})
        begin = time.perf_counter()
        page.goto(address)
        page.get_by_text("next (n)").wait_for()
        page.wait_for_function(covered)
        print(f"opened in {time.perf_counter() - begin:.1f} s", flush=True)
        page.keyboard.press("n")
        page.wait_for_timeout(1500)
        rng = np.random.default_rng(0)
        for number in range(moves):
            if number % 10 == 0:
                page.keyboard.press("n")
                page.wait_for_timeout(1500)
            step = rng.choice([-1, 1], 2) * (WIDTH // 2, HEIGHT // 2) * rng.permutation([1, 0])
            middle = np.array([WIDTH / 2, HEIGHT / 2])
            start, end = middle - step * 0.9, middle + step * 0.9
            page.mouse.move(*start)
            page.mouse.down()
            page.mouse.move(*end, steps=3)
            begin = time.perf_counter()
            page.mouse.up()
            page.wait_for_function(covered, polling=5, timeout=20_000)
            seconds.append(time.perf_counter() - begin)
        browser.close()
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="for die and project")
    parser.add_argument("--size", type=int, default=16384, help="side of the die in pixels")
    parser.add_argument("--moves", type=int, default=50)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "eal_icnet_jax"]
    die, project = arguments.work / "die", arguments.work / "project"
    if not (die / "via.ome.tif").exists():
        subprocess.run([*command, "draw", "die", die, f"--size={arguments.size}"], check=True)
    prediction = project / "predictions" / "000"
    if not (prediction / "places.json").exists():
        shutil.rmtree(project, ignore_errors=True)
        write_prediction(prediction, die)
    photograph = die / "image.ome.tif"
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*command, "review", photograph, f"--project={project}", "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = ""
        while "http" not in line:
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the command ended")
        print(f"served after {time.perf_counter() - begin:.1f} s", flush=True)
        address = re.search(r"http\S+", line).group()
        seconds = measure(address, mosaic_files.open_mosaic(photograph), arguments.moves)
    finally:
        process.kill()
    print(
        f"{len(seconds)} drags: median {1000 * statistics.median(seconds):.0f} ms, largest "
        f"{1000 * max(seconds):.0f} ms"
    )


if __name__ == "__main__":
    main()
