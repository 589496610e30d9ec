"""How far photographs with wide wires should be shrunk for the packaged networks.

    python benchmarks/shrinking.py --output=benchmarks/results
    python benchmarks/shrinking.py --data=DIR --output=benchmarks/results

Predicts drawn dies whose wires are wider than those that the network was trained for, and with
--data the upper left 256 pixels of real photographs in the form of real.py, magnified until their
wires are 2 and 3.5 times as wide. The whole factor of a photograph makes its wires as wide as the
network knows them; each power of it is tried. Writes shrinking.csv and shrinking.md: mIoU, opens
and shorts.
"""

import argparse
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np
from real import labelled_photographs
from reporting import write_table
from tabulate import tabulate

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.evaluation import metrics
from eal_icnet_jax.imaging.wire_width import median_wire_width
from eal_icnet_jax.inference.image_prediction import ImagePredictor
from eal_icnet_jax.models import checkpoints

POWERS = (1.0, 0.75, 0.5, 0.0)

SIDE, SEEDS, CORNER, WIDER = 1000, range(6), 256, (2.0, 3.5)

HEADINGS = ("photograph", "wires_px", "factor", "power", "mIoU", "opens", "shorts")

Case = tuple[str, str, np.ndarray, np.ndarray, np.ndarray, float]
"""Name, network, image, label and valid pixels, and by how much the image was magnified."""


def drawn_dies() -> Iterator[Case]:
    """Yield the second layers of some dies, which have wide wires."""
    for seed in SEEDS:
        drawn = die.draw_field(die.Die(SIDE, SIDE, seed=seed, metals=2, number=2), 0)
        label = drawn["metal"] > 0
        yield f"die {seed}", "optical", drawn["image"], label, np.ones_like(label), 1.0


def magnified_photographs(data: pathlib.Path) -> Iterator[Case]:
    """Yield parts of real photographs whose wires are made wide by magnifying them."""
    part = np.s_[:CORNER, :CORNER]
    for photograph in labelled_photographs(data):
        network = "optical" if photograph.has_colour else "sem"
        known = checkpoints.load_model(network).spec.preprocessing.wire_width
        label = photograph.metal[part]
        for wider in WIDER:
            factor = wider * known / median_wire_width(label)
            image = cv2.resize(photograph.image[part], None, fx=factor, fy=factor,
                               interpolation=cv2.INTER_CUBIC)  # fmt: skip
            yield photograph.name, network, image, label, photograph.valid[part], factor


def measured(case: Case) -> Iterator[tuple]:
    """Yield a row for each power."""
    name, network, image, label, valid, magnified = case
    model = checkpoints.load_model(network)
    width = median_wire_width(label) * magnified
    whole = model.spec.preprocessing.wire_width / width
    for power in POWERS:
        predict = ImagePredictor(model, scale=whole**power)
        p = predict(image).probabilities["metal"]
        mask = cv2.resize(p, label.shape[::-1], interpolation=cv2.INTER_AREA) >= 0.5
        comparison = metrics.MaskComparison(label, mask, valid)
        faults, miou = comparison.differences(), comparison.metrics()["mIoU"]
        yield name, width, whole, power, 100 * miou, faults.opens, faults.shorts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=pathlib.Path, help="folder of real photographs")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="for the table")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    sets = {"drawn": list(drawn_dies())}
    if arguments.data:
        sets["real, magnified"] = list(magnified_photographs(arguments.data))
    rows, lines = [], []
    for title, cases in sets.items():
        mine = []
        for case in cases:
            for row in measured(case):
                mine.append(row)
                print(*row, flush=True)
        rows += mine
        for power in POWERS:
            numbers = np.array([row[4:] for row in mine if row[3] == power], float)
            lines.append((title, len(numbers), power, f"{numbers[:, 0].mean():.1f}",
                          *numbers[:, 1:].sum(0).astype(int)))  # fmt: skip
    titles = ("photographs", "cases", "power", "mIoU, mean", "opens", "shorts")
    table = tabulate(lines, titles, "github")
    write_table(arguments.output, "shrinking", HEADINGS, rows, table)
    print(table)


if __name__ == "__main__":
    main()
