"""Accuracy of the demo's training when a quarter of each image is labelled and the rest is ignored.

    python benchmarks/partial_labels.py --work=WORK --output=OUT

Draws the demo's images into folders. Three trainings a seed: with whole labels, with a labelled
square of half the side in a random place of each image and the rest in ignore/, and with the same
square and the rest as background, as if there were no ignore/. The test images are labelled whole.
What lies in WORK is not trained again. Adds to partial_labels.csv in OUT, and writes
partial_labels.md. `--labels=0,1 --epochs=6` trains for six epochs instead of the demo's three, and
leaves the third kind out.
"""

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
from reporting import add_numbers, training_parser, write_table
from tabulate import tabulate

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.imaging import png
from eal_icnet_jax.system import workers

LABELS = ("all", "a quarter, the rest ignored", "a quarter, the rest as background")


def draw(work: pathlib.Path) -> list[pathlib.Path]:
    """Draw the images of the demo, with the three kinds of labels, and return their folders."""
    kind = examples.kind_by_name("optical_circuit")
    folders = [work / f"tree{number}" for number in range(len(LABELS))]

    def draw_one(item: tuple[str, int]):
        split, index = item
        example = examples.draw_example(kind, split, index)
        label = example["label"][..., 0]
        side = len(label) // 2
        top, left = np.random.default_rng(index).integers(0, len(label) - side + 1, 2)
        labelled = np.zeros(label.shape, bool)
        labelled[top : top + side, left : left + side] = True
        folder = {"validation": "val"}.get(split, split)
        for number, tree in enumerate(folders):
            is_whole = split != "train" or number == 0
            masks = {"image": example["image"], "label": label if is_whole else label * labelled}
            if number == 1 and not is_whole:
                masks["ignore"] = 255 * (~labelled).astype(np.uint8)
            for name, mask in masks.items():
                path = tree / folder / name / f"{index:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                png.write(path, mask)

    items = [
        (split, index)
        for split, count in zip(examples.SPLITS, kind.images, strict=True)
        for index in range(count)
    ]
    if not (work / "drawn").exists():
        list(workers.map_in_threads(draw_one, items))
        (work / "drawn").touch()
    return folders


def trained(tree: pathlib.Path, seed: int, epochs: int) -> dict:
    """Train on a folder as the demo does, and return the means over the test images."""
    run = tree.with_name(f"{tree.name}_{seed}_{epochs}")
    report = run / "test" / "metrics.json"
    if not report.exists():
        command = [
            sys.executable, "-m", "eal_icnet_jax", "train", "--config=configs/demo.py",
            f"--workdir={run}", "--config.dataset.name=omc", "--config.dataset.config=",
            f"--config.dataset.manual_dir={tree}", f"--config.seed={seed}",
            f"--config.dataset.data_dir={tree.with_name(f'{tree.name}_data')}",
            f"--config.epochs={epochs}",
        ]  # fmt: skip
        subprocess.run(command, check=True)
    return json.loads(report.read_text())["mean"]["label"]


Row = tuple[str, int, int]
"""Of the table: the labels, the epochs and the seed."""


def known_rows(path: pathlib.Path) -> dict[Row, float]:
    """Return the mIoU of each row of an earlier table."""
    if not path.exists():
        return {}
    with path.open() as file:
        return {
            (row["labelled"], int(row["epochs"]), int(row["seed"])): float(row["mIoU"])
            for row in csv.DictReader(file)
        }


def write(rows: dict[Row, float], output: pathlib.Path):
    """Write all rows, and their medians."""
    lines = []
    for name in LABELS:
        for epochs in sorted({key[1] for key in rows}):
            values = 100 * np.array([v for key, v in rows.items() if key[:2] == (name, epochs)])
            if len(values):
                spread = f"{values.min():.2f} to {values.max():.2f}"
                lines.append((name, epochs, len(values), f"{np.median(values):.2f}", spread))
    titles = ("labelled", "epochs", "seeds", "mIoU, median", "range over the seeds")
    headings = ("labelled", "epochs", "seed", "mIoU")
    known = ((*key, rows[key]) for key in sorted(rows))
    write_table(output, "partial_labels", headings, known, tabulate(lines, titles, "github"))


def main():
    parser = training_parser(__doc__)
    add_numbers(parser, "--labels", len(LABELS), "numbers of the kinds of labels")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    trees = draw(arguments.work)
    rows = known_rows(arguments.output / "partial_labels.csv")
    for seed in range(arguments.seeds):
        for number in arguments.labels:
            miou = trained(trees[number], seed, arguments.epochs)["mIoU"]
            rows[LABELS[number], arguments.epochs, seed] = miou
            write(rows, arguments.output)
            print(LABELS[number], seed, miou, flush=True)
    print((arguments.output / "partial_labels.md").read_text())


if __name__ == "__main__":
    main()
