"""Accuracy after training on four labelled crops of one half of a photograph, on the other half.

    python benchmarks/few_labels.py --data=DIR --work=WORK --output=OUT

DIR is a folder as in real.py. Of each photograph, four random squares of 256 pixels from the first
half along its longer side are trained on with configs/finetune.py, from the packaged weights and
from nothing, with three seeds. The other half is predicted as an image of its own with the
command's defaults. Halves with a side below 256 pixels are magnified twice for training. What lies
in WORK is not measured again. Writes few_labels.csv and few_labels.md after each training.
"""

import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
from real import Labelled, labelled_photographs, predict, score
from reporting import add_photographs, training_parser, write_table
from tabulate import tabulate

from eal_icnet_jax.imaging import png
from eal_icnet_jax.models import checkpoints, pretrained

SIDE, CROPS = 256, 4

METAL_FRACTION = 0.04, 0.92
"""Range of the part of a square that is metal."""


class Half:
    """Half of a photograph: image, metal and valid pixels."""

    def __init__(self, photograph: Labelled, second: bool):
        axis = int(np.argmax(photograph.metal.shape))
        self.image, self.metal, self.valid = (
            np.array_split(array, 2, axis)[second]
            for array in (photograph.image, photograph.metal, photograph.valid)
        )

    def crops(self, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the squares to train on and their labels."""
        arrays = self.image, self.metal.astype(np.uint8), self.valid.astype(np.uint8)
        if min(self.metal.shape) < SIDE:
            arrays = [
                cv2.resize(array, None, fx=2, fy=2, interpolation=method)
                for array, method in zip(
                    arrays, (cv2.INTER_CUBIC, cv2.INTER_NEAREST, cv2.INTER_NEAREST), strict=True
                )
            ]
        image, metal, valid = arrays
        rng, out = np.random.default_rng(seed), []
        low, high = METAL_FRACTION
        for _ in range(10_000):
            top, left = (rng.integers(0, length - SIDE + 1) for length in metal.shape)
            part = slice(top, top + SIDE), slice(left, left + SIDE)
            if valid[part].mean() > 0.98 and low < metal[part].mean() < high:
                out.append((image[part], 255 * metal[part]))
            if len(out) == CROPS:
                return out
        raise SystemExit("no squares with metal and ground were found in a half")


def train(crops: list, weights: str, start: str, seed: int, work: pathlib.Path) -> float:
    """Train on crops, and return the seconds that it took.

    Args:
      weights: the packaged weights that suit the photograph.
      start: `config.model.checkpoint`; empty for nothing.
    """
    for number, (image, label) in enumerate(crops):
        for name, array in (("image", image), ("label", label)):
            path = work / "crops" / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            png.write(path, array)
    command = [
        sys.executable, "-m", "eal_icnet_jax", "train",
        f"--config=configs/finetune.py:{weights}", f"--workdir={work / 'run'}",
        f"--config.dataset.manual_dir={work / 'crops'}", f"--config.seed={seed}",
        f"--config.dataset.data_dir={work / 'data'}", f"--config.model.checkpoint={start}",
    ]  # fmt: skip
    shared = work.parents[2] / "data" / "ic_synthetic"  # the drawn images, prepared once
    shared.mkdir(parents=True, exist_ok=True)
    (work / "data").mkdir(exist_ok=True)
    if not (work / "data" / "ic_synthetic").exists():
        (work / "data" / "ic_synthetic").symlink_to(shared.resolve())
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begin


def accuracy(half: Half, model) -> float:
    """Return the mIoU of the metal on half a photograph."""
    return score(half.metal, predict(half.image, model)[0], half.valid)["mIoU"]


def main():
    parser = training_parser(__doc__)
    add_photographs(parser)
    parser.add_argument("--starts", default="packaged,nothing")
    arguments = parser.parse_args()
    rows = []
    arguments.output.mkdir(parents=True, exist_ok=True)
    photographs = list(labelled_photographs(arguments.data, arguments.sets))
    starts = arguments.starts.split(",")
    for seed, start, photograph in itertools.product(range(arguments.seeds), starts, photographs):
        rows.append(measured(photograph, start, seed, arguments.work))
        print(*rows[-1], flush=True)
        write(rows, arguments.output)
    print(table(rows))


def measured(photograph: Labelled, start: str, seed: int, folder: pathlib.Path) -> tuple:
    """Return a row of the table, from the folder if it is there already."""
    work = folder / photograph.name / f"{start}_{seed}"
    record = work / "row.json"
    if record.exists():
        return tuple(json.loads(record.read_text()))
    shutil.rmtree(work, ignore_errors=True)  # of a run that was stopped, whose time is unknown
    first, second = Half(photograph, False), Half(photograph, True)
    weights = "optical" if photograph.has_colour else "sem"
    seconds = train(first.crops(seed), weights, weights if start == "packaged" else "", seed, work)
    networks = pretrained.load_pretrained(weights), checkpoints.load_model(work / "run")
    row = photograph.name, start, seed, *(accuracy(second, model) for model in networks), seconds
    record.write_text(json.dumps(row))
    return row


def write(rows: list[tuple], output: pathlib.Path):
    """Write the table of what has been measured so far."""
    headings = ("set", "start", "seed", "zero_shot", "mIoU", "seconds")
    write_table(output, "few_labels", headings, rows, table(rows))


def table(rows: list[tuple]) -> str:
    """Return the mean and the standard deviation over the seeds as a Markdown table, in percent."""
    lines = []
    for name, start in sorted({row[:2] for row in rows}):
        mine = [row for row in rows if row[:2] == (name, start)]
        tuned = 100 * np.array([row[4] for row in mine])
        seconds = np.median([row[5] for row in mine])
        deviation = f"{tuned.std(ddof=1):.1f}" if len(tuned) > 1 else ""
        lines.append((name, start, len(tuned), f"{100 * mine[0][3]:.1f}", f"{tuned.mean():.1f}",
                      deviation, f"{seconds:.0f}"))  # fmt: skip
    headings = ("set", "start", "seeds", "zero-shot", "fine-tuned", "deviation", "seconds")
    return tabulate(lines, headings, "github")


if __name__ == "__main__":
    main()
