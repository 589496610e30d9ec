"""Opens and shorts left after rounds of corrections, where the list says and in random places.

    python benchmarks/corrections.py --data=DIR --work=WORK --output=OUT

DIR is a folder as in real.py. Exact masks play the engineer: in each round ten squares of 256
pixels are labelled, those that `eal-icnet review-list` ranks first or ten random ones, `eal-icnet
finetune` trains on all squares so far, and the photograph is predicted again. Opens and shorts per
100 nets are those of the network's own mask, without the corrections. A stroke is a connected piece
of the mask that is wrong in a square, and takes a second. What lies in WORK is not done again.
Writes corrections.csv, corrections.md and corrections.png.
"""

import csv
import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
from matplotlib.figure import Figure
from real import Labelled, labelled_photographs
from reporting import add_photographs, training_parser
from tabulate import tabulate

from eal_icnet_jax.evaluation import metrics
from eal_icnet_jax.evaluation.calibration import Calibration
from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.review.places import find_places_in_blocks, square_around, worst_squares
from eal_icnet_jax.review.review_list import UnitMap

SIDE, SQUARES, ROUNDS = 256, 10, 3

CHOICES = "ranked", "random"


def predicted(photograph: Labelled, checkpoint: str, folder: pathlib.Path) -> np.ndarray:
    """Return the probabilities of metal `[H, W]` of a photograph."""
    if not list(folder.glob("*.json")):
        command = [
            sys.executable, "-m", "eal_icnet_jax", "predict", photograph.source,
            f"--output={folder}", f"--checkpoint={checkpoint}", "--probabilities", "--format=zarr",
        ]  # fmt: skip
        subprocess.run(command, check=True)
    (path,) = [p for p in folder.glob("*_probability.zarr") if "_via" not in p.name]
    height, width = mosaic_files.open_mosaic(path).shape
    return UnitMap(path)[slice(0, height), slice(0, width)]


def chosen(
    choice: str, p: np.ndarray, photograph: Labelled, taken: list, rng: np.random.Generator
) -> list[tuple[slice, slice]]:
    """Return the squares of a round. At least half of each was in no square before."""
    free = photograph.valid.copy()
    for square in taken:
        free[square] = False

    def is_new(rows: slice, columns: slice) -> bool:
        return bool(free[rows, columns].mean() > 0.5)

    if choice == "random":
        out = []
        while len(out) < SQUARES:
            y, x = (int(rng.integers(0, length)) for length in p.shape)
            square = square_around(x, y, SIDE, p.shape)
            if is_new(*square):
                out.append(square)
                free[square] = False
        return out
    places = [
        place
        for place in find_places_in_blocks(p, p.shape, "metal", Calibration.nothing(), 0.5, False)
        if free[place.y, place.x]
    ]
    squares = worst_squares(places, p.shape, SIDE, 5 * SQUARES)
    found = [(square.rows, square.columns) for square in squares]
    return [square for square in found if is_new(*square)][:SQUARES]


def strokes(mask: np.ndarray, photograph: Labelled, squares: list) -> int:
    """Return the number of wrong pieces of a mask in squares."""
    wrong = (mask != photograph.metal) & photograph.valid
    pieces = 0
    for square in squares:
        part = cv2.morphologyEx(wrong[square].astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
        pieces += cv2.connectedComponents(part, connectivity=8)[0] - 1
    return pieces


def faults(mask: np.ndarray, photograph: Labelled) -> tuple[int, int]:
    """Return the number of opens and shorts, and that of the nets."""
    found = metrics.electrically_significant_differences(photograph.metal, mask, photograph.valid)
    return found.opens + found.shorts, found.nets


def write_squares(project: pathlib.Path, photograph: Labelled, squares: list):
    """Write exact labels of squares into a project."""
    for rows, columns in squares:
        arrays = {
            "image": photograph.image[rows, columns],
            "label": 255 * photograph.metal[rows, columns].astype(np.uint8),
            "ignore": 255 * (~photograph.valid[rows, columns]).astype(np.uint8),
        }
        for name, array in arrays.items():
            path = project / "train" / name / f"y{rows.start:05}_x{columns.start:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            png.write(path, array)


def measure(photograph: Labelled, choice: str, seed: int, work: pathlib.Path) -> list[tuple]:
    """Return a row for each round: set, choice, seed, round, minutes, opens and shorts, nets."""
    folder = work / photograph.name / f"{choice}_{seed}"
    weights = "optical" if photograph.has_colour else "sem"
    checkpoint, squares, count = weights, [], 0
    rng, rows = np.random.default_rng(seed), []
    for number in range(ROUNDS + 1):
        place = work / photograph.name / "start" if number == 0 else folder / f"masks{number}"
        record = folder / f"round{number}.json"
        p = predicted(photograph, checkpoint, place)
        found = faults(p >= 0.5, photograph)
        rows.append((photograph.name, choice, seed, number, count / 60, *found))
        print(*rows[-1], flush=True)
        if number == ROUNDS:
            break
        new = chosen(choice, p, photograph, squares, rng)
        count += strokes(p >= 0.5, photograph, new)
        squares += new
        project = folder / f"project{number + 1}"
        if not record.exists():
            write_squares(project, photograph, squares)
            command = [
                sys.executable, "-m", "eal_icnet_jax", "finetune", f"--project={project}",
                f"--checkpoint={weights}", f"--config.seed={seed}",
            ]  # fmt: skip
            subprocess.run(command, check=True)
            record.write_text(json.dumps({"squares": len(squares)}))
        checkpoint = str(project / "models" / "001")
    return rows


def write(rows: list[tuple], output: pathlib.Path):
    """Write the table and the curves of what has been measured so far."""
    with (output / "corrections.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("set", "choice", "seed", "round", "minutes", "opens_and_shorts", "nets"))
        writer.writerows(rows)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis, lines = figure.subplots(), []
    for name in sorted({row[0] for row in rows}):
        for choice, style in zip(CHOICES, ("o-", "s--"), strict=True):
            mine = np.array([row[3:] for row in rows if row[:2] == (name, choice)])
            if not len(mine):
                continue
            means = [mine[mine[:, 0] == k].mean(0) for k in range(int(mine[:, 0].max()) + 1)]
            minutes, per_100 = zip(*((m[1], 100 * m[2] / m[3]) for m in means), strict=True)
            axis.plot(minutes, per_100, style, label=f"{name}, {choice}")
            lines.append((name, choice, *(f"{value:.1f}" for value in per_100),
                          f"{minutes[-1]:.0f}"))  # fmt: skip
    axis.set(
        xlabel="minutes of correction, a second a stroke", ylabel="opens and shorts per 100 nets"
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(output / "corrections.png", dpi=110)
    rounds = [f"round {k}" for k in range(1, ROUNDS + 1)]
    headings = ("set", "squares", "before", *rounds, "minutes")
    (output / "corrections.md").write_text(tabulate(lines, headings, "github") + "\n")


def main():
    parser = training_parser(__doc__)
    add_photographs(parser)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(arguments.seeds):
        for photograph in labelled_photographs(arguments.data, arguments.sets):
            for choice in CHOICES:
                rows += measure(photograph, choice, seed, arguments.work)
                write(rows, arguments.output)
    print((arguments.output / "corrections.md").read_text())


if __name__ == "__main__":
    main()
