"""Opens and shorts left after rounds of corrections, where the list says and in random places.

    python benchmarks/corrections.py --data=DIR --work=WORK --output=OUT

DIR is a folder as in real.py. Exact masks play the engineer: in each round ten squares of 128
pixels are corrected, those that `eal-icnet review-list` ranks first or ten random ones, `eal-icnet
finetune` trains on all squares so far, and the photograph is predicted again. Opens and shorts per
100 nets are counted in the network's own mask, and in the mask with the corrections upon it, which
is what the engineer has. A stroke is a connected piece of the mask that is wrong in a square, and
takes a second. The first seed goes `--rounds` rounds, the others one. What lies in WORK, or stands
in OUT/corrections.csv, is not done again. Writes corrections.csv, corrections.md and
corrections.png.
"""

import csv
import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from real import Labelled, labelled_photographs
from reporting import add_photographs, training_parser, write_table
from tabulate import tabulate

from eal_icnet_jax.evaluation import metrics
from eal_icnet_jax.evaluation.calibration import Calibration
from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.review.places import find_places_in_blocks, square_around, worst_squares
from eal_icnet_jax.review.review_list import UnitMap

SIDE, SQUARES = 128, 10

CONTEXT = 256
"""Side of what is stored around a square, as the page stores it. Outside the square is ignored."""

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
        out: list[tuple[slice, slice]] = []
        for _ in range(10_000):
            if len(out) == SQUARES:
                break
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


def corrected(mask: np.ndarray, photograph: Labelled, squares: list) -> np.ndarray:
    """Return a mask with the exact one in squares."""
    mask = mask.copy()
    for square in squares:
        mask[square] = photograph.metal[square]
    return mask


def write_squares(project: pathlib.Path, photograph: Labelled, squares: list):
    """Write exact labels of squares into a project, and what lies around them."""
    seen = np.zeros(photograph.metal.shape, bool)
    for square in squares:
        seen[square] = photograph.valid[square]
    for square in squares:
        y, x = ((part.start + part.stop) // 2 for part in square)
        rows, columns = square_around(x, y, CONTEXT, photograph.metal.shape)
        arrays = {
            "image": photograph.image[rows, columns],
            "label": 255 * photograph.metal[rows, columns].astype(np.uint8),
            "ignore": 255 * (~seen[rows, columns]).astype(np.uint8),
        }
        for name, array in arrays.items():
            path = project / "train" / name / f"y{rows.start:05}_x{columns.start:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            png.write(path, array)


class Row(NamedTuple):
    """Opens and shorts after a round of corrections. Round 0 is before the first one.

    own: in the network's own mask.
    with_corrections: in the mask that has the squares so far corrected.
    """

    set: str
    choice: str
    seed: int
    round: int
    minutes: float
    own: int
    with_corrections: int
    nets: int


def measure(
    photograph: Labelled, choice: str, seed: int, rounds: int, work: pathlib.Path
) -> list[Row]:
    """Return a row for each round."""
    folder = work / photograph.name / f"{choice}_{seed}"
    weights = "optical" if photograph.has_colour else "sem"
    checkpoint, squares, count = weights, [], 0
    rng, rows = np.random.default_rng(seed), []
    for number in range(rounds + 1):
        place = work / photograph.name / "start" if number == 0 else folder / f"masks{number}"
        p = predicted(photograph, checkpoint, place)
        mask = p >= 0.5
        own, nets = faults(mask, photograph)
        fixed, _ = faults(corrected(mask, photograph, squares), photograph)
        rows.append(Row(photograph.name, choice, seed, number, count / 60, own, fixed, nets))
        print(*rows[-1], flush=True)
        if number == rounds:
            break
        new = chosen(choice, p, photograph, squares, rng)
        count += strokes(mask, photograph, new)
        squares += new
        project, record = folder / f"project{number + 1}", folder / f"round{number + 1}.json"
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


COUNTS = {"own": "the network's own mask", "with_corrections": "with the corrections upon it"}


def write(rows: list[Row], output: pathlib.Path):
    """Write the tables and the curves of what has been measured so far."""
    sets, rounds = sorted({row.set for row in rows}), max(row.round for row in rows)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    curves, removed = [], []
    for axis, (count, title) in zip(
        figure.subplots(1, 2, sharey=True), COUNTS.items(), strict=True
    ):
        for colour, name in enumerate(sets):
            for choice, style in zip(CHOICES, ("o-", "s--"), strict=True):
                mine = [r for r in rows if (r.set, r.choice, r.seed) == (name, choice, 0)]
                if not mine:
                    continue
                per_100 = [100 * getattr(row, count) / row.nets for row in mine]
                minutes = [row.minutes for row in mine]
                axis.plot(minutes, per_100, style, color=f"C{colour}", label=f"{name}, {choice}")
                curves.append((name, choice, title, *(f"{value:.1f}" for value in per_100),
                               *("" for _ in range(rounds + 1 - len(mine))),
                               f"{minutes[-1]:.0f}"))  # fmt: skip
            found = {choice: _removed(rows, name, choice, count) for choice in CHOICES}
            if all(len(values) for values in found.values()):
                mean = {choice: np.mean(values) for choice, values in found.items()}
                removed.append((
                    name, title, len(found["ranked"]), *(f"{mean[c]:.0f}" for c in CHOICES),
                    f"{mean['ranked'] / mean['random']:.2f}" if min(mean.values()) > 0 else "",
                ))  # fmt: skip
        axis.set(title=title, xlabel="minutes of correction, a second a stroke")
        axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.axes[0].set_ylabel("opens and shorts per 100 nets")
    figure.savefig(output / "corrections.png", dpi=110)
    titles = [f"round {k}" for k in range(1, rounds + 1)]
    tables = (
        ("Opens and shorts that the first round removes, mean of the seeds",
         ("set", "mask", "seeds", *CHOICES, "ratio"), removed),
        ("Opens and shorts per 100 nets, first seed",
         ("set", "squares", "mask", "before", *titles, "minutes"), curves),
    )  # fmt: skip
    text = "\n\n".join(
        f"{title}:\n\n{tabulate(lines, headings, 'github')}" for title, headings, lines in tables
    )
    write_table(output, "corrections", Row._fields, rows, text)


def _removed(rows: list[Row], name: str, choice: str, count: str) -> list[int]:
    """Return how many opens and shorts the first round removes, for each seed."""
    own = {(r.seed, r.round): r for r in rows if (r.set, r.choice) == (name, choice)}
    seeds = sorted({seed for seed, number in own if number == 1})
    return [own[seed, 0].own - getattr(own[seed, 1], count) for seed in seeds]


def known_rows(path: pathlib.Path) -> list[Row]:
    """Return the rows of an earlier table."""
    if not path.exists():
        return []
    kinds = Row.__annotations__.values()
    with path.open() as file:
        if file.readline().strip() != ",".join(Row._fields):
            raise SystemExit(f"{path} has other columns: name another --output")
        file.seek(0)
        return [
            Row(*(kind(value) for kind, value in zip(kinds, row.values(), strict=True)))
            for row in csv.DictReader(file)
        ]


def main():
    parser = training_parser(__doc__)
    add_photographs(parser)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = known_rows(arguments.output / "corrections.csv")
    for seed in range(arguments.seeds):
        rounds = arguments.rounds if seed == 0 else 1
        for photograph in labelled_photographs(arguments.data, arguments.sets):
            for choice in CHOICES:
                this = photograph.name, choice, seed
                if sum(row[:3] == this for row in rows) > rounds:
                    continue
                found = measure(photograph, choice, seed, rounds, arguments.work)
                rows = sorted([row for row in rows if row[:3] != this] + found)
                write(rows, arguments.output)
    print((arguments.output / "corrections.md").read_text())


if __name__ == "__main__":
    main()
