"""How many vias are found with each weighting of the loss, at equal precision.

    python benchmarks/via_weights.py --work=WORK --output=OUT

Trains on drawn optical micrographs with labelled vias, with three seeds and each weighting. On the
test images, the threshold of each network is set so that its pixels have the precision that the
network of the same seed with the paper's loss has at 0.5. At that threshold, recall is the part of
the vias' pixels that is found, and a via is found if half of its pixels are. What lies in WORK is
not trained again. Writes via_weights.csv and via_weights.md. `--losses=0,1` compares the first two
weightings alone.
"""

import pathlib
import subprocess
import sys

import cv2
import numpy as np
from reporting import add_numbers, training_parser, write_table
from tabulate import tabulate

from eal_icnet_jax.commands.config_arguments import load_config
from eal_icnet_jax.data import decoded_examples, prepared_datasets
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.models import checkpoints

WEIGHTINGS = {
    "the paper's loss": (),
    "positive_weight=balanced": ("--config.loss.positive_weight=balanced",),
    "positive_weight=5": ("--config.loss.positive_weight=5",),
    "Tversky 0.3, 0.7": (
        "--config.loss.false_positive_weight=0.3",
        "--config.loss.false_negative_weight=0.7",
    ),
}


def options_of(work: pathlib.Path, seed: int) -> list[str]:
    """Return the flags of all trainings with a seed."""
    return [
        f"--config.dataset.data_dir={work / 'data'}", f"--config.seed={seed}",
        "--config.dataset.crop_size=256", "--config.batch_size=4", "--config.epochs=6",
    ]  # fmt: skip


def trained(number: int, seed: int, work: pathlib.Path) -> pathlib.Path:
    """Return the work directory of a training with one of the weightings."""
    run = work / f"run{number}_{seed}"
    if not (run / "test" / "metrics.json").exists():
        command = [
            sys.executable, "-m", "eal_icnet_jax", "train", "--config=configs/synthetic_via.py",
            f"--workdir={run}", *options_of(work, seed), *list(WEIGHTINGS.values())[number],
        ]  # fmt: skip
        subprocess.run(command, check=True)
    return run


def predicted(run: pathlib.Path, options: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities and the labels of all test images, `[N, H, W]`."""
    config = load_config("configs/synthetic_via.py", options)
    model = checkpoints.load_model(run)
    predictor = Predictor(model)
    source = prepared_datasets.open_split(config.dataset, "test")
    examples = list(decoded_examples.evaluation_examples(config, source))
    found = [predictor.probabilities(example["image"][None])[0, ..., 0] for example in examples]
    return np.stack(found), np.stack([example["label"][..., 0] for example in examples])


def precision_at(threshold: float, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the part of the predicted pixels that are vias."""
    mask = probabilities >= threshold
    return float((mask & labels).sum() / max(mask.sum(), 1))


def threshold_for(precision: float, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the lowest threshold that reaches a precision."""
    order = np.argsort(-probabilities, axis=None)
    hits = np.cumsum(labels.ravel()[order])
    reached = np.flatnonzero(hits / np.arange(1, len(hits) + 1) >= precision)
    return float(probabilities.ravel()[order][reached[-1]])


def vias_found(mask: np.ndarray, labels: np.ndarray) -> float:
    """Return the part of the vias that are found: at least half of their pixels are."""
    found = []
    for predicted_mask, label in zip(mask, labels, strict=True):
        count, regions = cv2.connectedComponents(label.astype(np.uint8), connectivity=8)
        area = np.bincount(regions.ravel(), minlength=count)
        hits = np.bincount(regions[predicted_mask], minlength=count)
        found += list(hits[1:] >= 0.5 * area[1:])
    return float(np.mean(found))


def main():
    parser = training_parser(__doc__)
    add_numbers(parser, "--losses", len(WEIGHTINGS), "of weightings; others are compared to 0")
    arguments = parser.parse_args()
    if 0 not in arguments.losses:
        parser.error("--losses must name 0, to which others are compared")
    names = {number: list(WEIGHTINGS)[number] for number in arguments.losses}
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(arguments.seeds):
        precision = 0.0
        for number, name in names.items():
            run = trained(number, seed, arguments.work)
            probabilities, labels = predicted(run, options_of(arguments.work, seed))
            if number == 0:
                precision = precision_at(0.5, probabilities, labels)
            threshold = threshold_for(precision, probabilities, labels)
            mask = probabilities >= threshold
            recall = float((mask & labels).sum() / labels.sum())
            at_half = float(((probabilities >= 0.5) & labels).sum() / labels.sum())
            rows.append((name, seed, precision, threshold, recall, vias_found(mask, labels),
                         precision_at(0.5, probabilities, labels), at_half))  # fmt: skip
            print(*rows[-1], flush=True)
    headings = ("loss", "seed", "precision", "threshold", "recall", "vias_found",
                "precision_at_half", "recall_at_half")  # fmt: skip
    lines = []
    for name in names.values():
        mine = np.array([row[2:] for row in rows if row[0] == name])
        lines.append(
            (name, *(f"{value:.1f}" for value in 100 * np.median(mine, 0)[[0, 2, 3, 4, 5]]))
        )
    titles = ("loss", "precision", "recall", "vias found", "precision at 0.5", "recall at 0.5")
    table = tabulate(lines, titles, "github")
    write_table(arguments.output, "via_weights", headings, rows, table)
    print(table)


if __name__ == "__main__":
    main()
