"""Predictions against labels: tables and pictures.

    python -m eal_icnet_jax.evaluate --labels=DIR --images=DIR --checkpoint=DIR --output=DIR
    python -m eal_icnet_jax.evaluate --labels=DIR --predictions=DIR --output=DIR

The first predicts the images of a folder and compares, the second compares masks from anywhere.
`python -m eal_icnet_jax.main --mode=evaluate` does the same on a prepared dataset.
"""

import argparse
import csv
import dataclasses
import heapq
import io
import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from eal_icnet_jax import checkpoints, images, input_pipeline, metrics, pictures, runtime
from eal_icnet_jax.errors import UserError, command_parser, run_command
from eal_icnet_jax.files import write_whole
from eal_icnet_jax.predictor import Predictor

Row = dict[str, object]

COUNTS = {**metrics.COUNTS, "nets": "nets"}


def _batches(examples: Iterable[dict], size: int) -> Iterator[list[dict]]:
    """Runs of at most `size` examples whose images have one shape."""
    for _, run in itertools.groupby(examples, lambda example: example["image"].shape):
        while batch := list(itertools.islice(run, size)):
            yield batch


def predicted(
    predictor: Predictor, examples: Iterable[dict], batch_size: int
) -> Iterator[tuple[dict, np.ndarray, float]]:
    """Each example with its probabilities `[H, W, classes]` and its loss."""
    for batch in _batches(examples, batch_size):
        image, label = (np.stack([e[key] for e in batch]) for key in ("image", "label"))
        yield from zip(batch, *predictor.with_losses(image, label), strict=True)


class Evaluation:
    """Metrics of one image after another, and the images to draw.

    Args:
      labels: names of the masks.
      threshold: a pixel is foreground from this probability up.
      keep: how many of the worst and of the best images to keep for the pictures.

    Attributes:
      rows: one an image and mask: name, label, loss (of the image; None where there is no model),
        the metrics, and the electrically significant differences.
    """

    def __init__(self, labels: Iterable[str], threshold: float, keep: int):
        self.rows: list[Row] = []
        self._labels = tuple(labels)
        self._threshold = threshold
        self._keep = keep
        self._extremes: dict[str, list] = {"best": [], "worst": []}

    def add(self, example: dict, probabilities: np.ndarray, loss: float | None):
        """One image: `label` and `probabilities` are `[H, W, L]`."""
        prediction = probabilities >= self._threshold
        scores = []
        for k, label in enumerate(self._labels):
            masks = example["label"][..., k], prediction[..., k]
            figures = metrics.evaluate_masks(*masks)
            counts = dataclasses.asdict(metrics.electrically_significant_differences(*masks))
            scores.append(figures["mIoU"])
            loss_figure = None if loss is None else float(loss)
            row = {"name": example["name"], "label": label, "loss": loss_figure}
            row |= {**figures, **counts}
            self.rows.append(row)
        for which, sign in (("best", 1), ("worst", -1)):
            # The count breaks ties, so that examples are never compared.
            item = (sign * float(np.mean(scores)), -self.images, example, prediction)
            heapq.heappush(self._extremes[which], item)
            if len(self._extremes[which]) > self._keep:
                heapq.heappop(self._extremes[which])

    @property
    def images(self) -> int:
        """How many there were."""
        return len(self.rows) // len(self._labels)

    def check(self):
        """Raises a `UserError` where there was no image."""
        if not self.rows:
            raise UserError("there is no image to evaluate: the split or folder is empty")

    def take_turns(self, shares: list[list[Row]]):
        """Replaces its rows by those of several processes, each of which had every n-th image.

        Raises:
          UserError: there are none.
        """
        width = len(self._labels)
        each = [[rows[k : k + width] for k in range(0, len(rows), width)] for rows in shares]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*each, fillvalue=()))
        self.rows = list(itertools.chain.from_iterable(turns))
        self.check()

    def loss(self) -> float:
        """The images' average loss."""
        return float(np.mean([row["loss"] for row in self.rows]))

    def _of_label(self, label: str) -> list[Row]:
        return [row for row in self.rows if row["label"] == label]

    def summary(self) -> dict[str, dict[str, float]]:
        """The metrics averaged over images, per label."""
        return {label: metrics.average(self._of_label(label)) for label in self._labels}

    def electrical(self) -> dict[str, dict[str, int]]:
        """The electrically significant differences of all images together, per label."""
        return {
            label: {name: sum(row[name] for row in self._of_label(label)) for name in COUNTS}
            for label in self._labels
        }

    def table(self) -> str:
        """The summary as text: the metrics in percent, and the counts."""
        heads = [f"{name:>10s}" for name in metrics.METRICS]
        heads += [f"{name:>8s}" for name in COUNTS.values()]
        lines = [f"{'label':12s}{''.join(heads)}"]
        for (label, figures), counts in zip(
            self.summary().items(), self.electrical().values(), strict=True
        ):
            values = [f"{100 * figures[name]:10.2f}" for name in metrics.METRICS]
            values += [f"{count:8,d}" for count in counts.values()]
            lines.append(f"{label:12s}{''.join(values)}")
        return "\n".join(lines)

    def report(self) -> dict:
        """All figures, of JSON types."""
        out = {
            "images": self.images,
            "mean": self.summary(),
            "electrical": self.electrical(),
            "per_image": self.rows,
        }
        if self.rows[0]["loss"] is not None:
            out["loss"] = self.loss()
        return out

    def write(self, folder: pathlib.Path):
        """Writes metrics.csv, metrics.json and the pictures of the worst and the best images."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            table = io.StringIO(newline="")
            writer = csv.DictWriter(table, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
            write_whole(folder / "metrics.csv", table.getvalue())
            write_whole(folder / "metrics.json", json.dumps(self.report(), indent=1) + "\n")
            for which, kept in self._extremes.items():
                for old in folder.glob(f"{which}_*.png"):
                    old.unlink()
                ranked = sorted(kept, reverse=True)
                for rank, (score, _, example, prediction) in enumerate(ranked, 1):
                    path = folder / f"{which}_{rank}_{example['name']}.png"
                    title = f"{example['name']}, mIoU {100 * abs(score):.2f}"
                    pictures.confusion(
                        path, title, example["image"], example["label"], prediction, self._labels
                    )
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error


def evaluate_examples(
    predictor: Predictor, examples: Iterable[dict], evaluation: Evaluation, batch_size: int
):
    """Fills an evaluation with a model's predictions of examples."""
    for example, probabilities, loss in predicted(predictor, examples, batch_size):
        evaluation.add(example, probabilities, loss)


def compare_folders(predictions: pathlib.Path, labels: pathlib.Path, keep: int) -> Evaluation:
    """Evaluates mask files against label files of the same stems."""
    evaluation = Evaluation(("label",), 0.5, keep)
    for example in input_pipeline.folder_examples(predictions, labels, 1):
        mask, _ = images.to_mask(np.rint(example["image"][..., 0] * 255).astype(np.uint8))
        evaluation.add(example, mask[..., None].astype(np.float32), None)
    return evaluation


def parser() -> argparse.ArgumentParser:
    out = command_parser("evaluate", __doc__)
    add = out.add_argument
    add("--labels", type=pathlib.Path, required=True, help="folder of label masks")
    add("--images", type=pathlib.Path, help="folder of images to predict, with --checkpoint")
    add("--checkpoint", help="checkpoint or work directory")
    add("--predictions", type=pathlib.Path, help="folder of masks to compare instead")
    add("--output", type=pathlib.Path, required=True, help="folder for tables and pictures")
    add("--threshold", type=float, default=0.5, help="foreground from this probability (0.5)")
    add("--pictures", type=int, default=4, help="how many of the worst and best to draw (4)")
    return out


def run(arguments: argparse.Namespace):
    with_model = arguments.images is not None and arguments.checkpoint is not None
    if with_model == (arguments.predictions is not None):
        raise UserError("evaluate takes --images with --checkpoint, or --predictions alone")
    if with_model:
        runtime.configure()
        model = checkpoints.load_model(arguments.checkpoint)
        options = dict(model.spec.options)
        if options["classes"] != 1:
            raise UserError(
                f"{arguments.checkpoint} predicts {options['classes']} masks, and a folder has one "
                "label an image: evaluate it on its dataset with --mode=evaluate"
            )
        examples = input_pipeline.folder_examples(
            arguments.images, arguments.labels, options["in_channels"]
        )
        evaluation = Evaluation(("label",), arguments.threshold, arguments.pictures)
        evaluate_examples(Predictor(model), examples, evaluation, 1)
    else:
        evaluation = compare_folders(arguments.predictions, arguments.labels, arguments.pictures)
    evaluation.check()
    evaluation.write(arguments.output)
    print(evaluation.table())
    print(f"tables and pictures in {arguments.output}")


def main(argv: list[str] | None = None):
    run_command(parser(), run, argv)


if __name__ == "__main__":
    main()
