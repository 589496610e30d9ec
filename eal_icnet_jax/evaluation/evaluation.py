"""Metrics of a set of images, with tables and pictures."""

import collections
import concurrent.futures
import csv
import dataclasses
import heapq
import io
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
from tabulate import tabulate

from eal_icnet_jax.data.transforms import ARRAYS
from eal_icnet_jax.evaluation import metrics
from eal_icnet_jax.evaluation.calibration import Calibration
from eal_icnet_jax.imaging import decoding, image_folders
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import (
    MADE_BY,
    cannot_be_written,
    check_replaceable,
    check_report_replaceable,
    write_atomically,
)
from eal_icnet_jax.system.terminal import warn

Row = dict[str, object]
"""The name, label, loss, metrics and electrical differences of one image and mask."""

COUNT_HEADINGS = {**metrics.COUNTS, "nets": "nets"}
"""Table heading of each count in a row."""

RELIABILITY_NAME = "reliability.png"
"""Name of the picture of the calibration."""

PICTURE_NAME = re.compile(r"(best|worst)_\d+_[^/\\]*\.png|reliability\.png")
"""Names of the pictures that `Evaluation.write` writes."""


def _batches(examples: Iterable[dict], size: int) -> Iterator[list[dict]]:
    """Yield batches of at most `size` consecutive examples whose images have one shape."""
    for _, run in itertools.groupby(examples, lambda example: example["image"].shape):
        while batch := list(itertools.islice(run, size)):
            yield batch


def predict_examples(
    predictor: Predictor, examples: Iterable[dict], batch_size: int
) -> Iterator[tuple[dict, np.ndarray, float]]:
    """Yield each example with its probabilities `[H, W, classes]` and its loss."""
    for batch in _batches(examples, batch_size):
        arrays = (np.stack([example[key] for example in batch]) for key in ARRAYS)
        yield from zip(batch, *predictor.with_losses(*arrays), strict=True)


class Evaluation:
    """The metrics of images that are added one by one, and the images to draw.

    Args:
      labels: names of the masks.
      threshold: smallest probability of foreground.
      keep: number of the worst and of the best images that are kept for pictures.
      has_probabilities: whether predictions are probabilities, whose calibration is measured.

    Attributes:
      rows: one per image and mask, in the order in which the images were added. The loss is that of
        the image, or None if there is no model.
      calibrations: of the images, by label; empty without probabilities.
    """

    def __init__(
        self, labels: Iterable[str], threshold: float, keep: int, has_probabilities: bool = True
    ):
        self.calibrations = (
            dict.fromkeys(labels, Calibration.nothing()) if has_probabilities else {}
        )
        self.rows: list[Row] = []
        self._labels = tuple(labels)
        self._threshold = threshold
        self._keep = keep
        self._extremes: dict[str, list] = {"best": [], "worst": []}

    def add(
        self,
        example: dict,
        probabilities: np.ndarray,
        loss: float | None,
        prediction: np.ndarray | None = None,
    ):
        """Add one image.

        Args:
          example: `name`, `image` `[H, W, C]` float32 in [0, 1], `label` `[H, W, L]` bool and
            `valid` `[H, W, 1]` bool, the pixels that count.
          probabilities: `[H, W, L]`.
          loss: of the image, or None.
          prediction: masks `[H, W, L]` bool; None for those of the threshold.
        """
        valid = example["valid"][..., 0]
        if prediction is None:
            prediction = probabilities >= self._threshold
        scores = []
        for k, label in enumerate(self._labels):
            masks = example["label"][..., k], prediction[..., k], valid
            if label in self.calibrations:
                self.calibrations[label] += Calibration.of(probabilities[..., k], masks[0], valid)
            comparison = metrics.MaskComparison(*masks)
            values, counts = comparison.metrics(), dataclasses.asdict(comparison.differences())
            scores.append(values["mIoU"])
            row = {
                "name": example["name"],
                "label": label,
                "loss": None if loss is None else float(loss),
            }
            self.rows.append({**row, **values, **counts})
        for extreme, sign in (("best", 1), ("worst", -1)):
            # The image count breaks ties, so that examples are never compared.
            item = (sign * float(np.mean(scores)), -self.images, example, prediction)
            heapq.heappush(self._extremes[extreme], item)
            if len(self._extremes[extreme]) > self._keep:
                heapq.heappop(self._extremes[extreme])

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.rows) // len(self._labels)

    def check(self):
        """Raise a `UserError` if there was no image."""
        if not self.rows:
            raise UserError("there is no image to evaluate: the split or folder is empty")

    def merge_shares(self, shares: list[list[Row]]):
        """Replace the rows by those of several processes, in the order of the images.

        Args:
          shares: rows of each process; of `n` processes, each had every `n`-th image.

        Raises:
          UserError: there are no rows.
        """
        per_image = len(self._labels)
        by_process = [
            [rows[k : k + per_image] for k in range(0, len(rows), per_image)] for rows in shares
        ]
        interleaved = itertools.zip_longest(*by_process, fillvalue=())
        by_image = itertools.chain.from_iterable(interleaved)
        self.rows = list(itertools.chain.from_iterable(by_image))
        self.check()

    def loss(self) -> float:
        """Return the average loss of the images."""
        return float(np.mean([row["loss"] for row in self.rows]))

    def _rows_of(self, label: str) -> list[Row]:
        return [row for row in self.rows if row["label"] == label]

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the metrics averaged over the images, by label."""
        return {label: metrics.average(self._rows_of(label)) for label in self._labels}

    def electrical(self) -> dict[str, dict[str, int]]:
        """Return the electrically significant differences summed over the images, by label."""
        return {
            label: {name: sum(row[name] for row in self._rows_of(label)) for name in COUNT_HEADINGS}
            for label in self._labels
        }

    def table(self) -> str:
        """Return the summary as a table: the metrics in percent, and the counts."""
        summary, electrical = self.summary(), self.electrical()
        rows = [
            [label]
            + [f"{100 * summary[label][name]:.2f}" for name in metrics.METRICS]
            + [f"{count:,d}" for count in electrical[label].values()]
            for label in self._labels
        ]
        headings = ["label", *metrics.METRICS, *COUNT_HEADINGS.values()]
        alignment = ["left"] + ["right"] * (len(headings) - 1)
        return tabulate(rows, headings, "plain", colalign=alignment, disable_numparse=True)

    def report(self) -> dict:
        """Return all results as a JSON object."""
        out = {
            "images": self.images,
            "mean": self.summary(),
            "electrical": self.electrical(),
            "per_image": self.rows,
        }
        if self.rows[0]["loss"] is not None:
            out["loss"] = self.loss()
        if self.calibrations:
            out["calibration"] = {name: c.to_json() for name, c in self.calibrations.items()}
        return out

    def _ranked(self) -> Iterator[tuple[str, str, dict, np.ndarray]]:
        """Yield file name, title, example and prediction of each picture."""
        for extreme, kept in self._extremes.items():
            for rank, (score, _, example, prediction) in enumerate(sorted(kept, reverse=True), 1):
                name = example["name"]
                title = f"{name}, mIoU {100 * abs(score):.2f}"
                yield f"{extreme}_{rank}_{name}.png", title, example, prediction

    def write(self, folder: pathlib.Path, force: bool = False):
        """Write metrics.csv, metrics.json and the pictures of the worst and the best images.

        reliability.png shows the calibration of probabilities.

        Pictures that an earlier evaluation wrote there, according to its metrics.json, are removed.

        Args:
          folder: is made if it does not exist.
          force: whether files that another program wrote are replaced.

        Raises:
          UserError: they cannot be written, or would replace a file of another program.
        """
        from eal_icnet_jax.evaluation import pictures  # imports Matplotlib, which takes time

        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(self.rows[0]))
        writer.writeheader()
        writer.writerows(self.rows)
        drawings = list(self._ranked())
        names = [name for name, *_ in drawings]
        names += [RELIABILITY_NAME] if self.calibrations else []
        report = {"software": MADE_BY.decode(), **self.report(), "pictures": names}
        earlier = _pictures_written(folder / "metrics.json")
        check_report_replaceable(folder, ("metrics.json", "metrics.csv"), force)
        for name in names:
            check_replaceable(folder / name, force or name in earlier)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in earlier:
                (folder / name).unlink(missing_ok=True)
            write_atomically(folder / "metrics.csv", table.getvalue())
            write_atomically(folder / "metrics.json", json.dumps(report, indent=1) + "\n")
            if self.calibrations:
                pictures.draw_reliability(folder / RELIABILITY_NAME, self.calibrations)
            for name, title, example, prediction in drawings:
                pictures.draw_evaluation(
                    folder / name,
                    title,
                    example["image"],
                    example["label"],
                    prediction,
                    self._labels,
                    example["valid"][..., 0],
                )
        except OSError as error:
            raise cannot_be_written(folder, error) from error


def _pictures_written(path: pathlib.Path) -> list[str]:
    """Return the names of the pictures in a metrics.json; none if it is missing or damaged."""
    try:
        names = json.loads(path.read_text())["pictures"]
        return [name for name in names if PICTURE_NAME.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def evaluate_examples(
    predictor: Predictor, examples: Iterable[dict], evaluation: Evaluation, batch_size: int
):
    """Add a model's predictions of examples to an evaluation.

    The metrics of a batch are computed in a thread while the next one is predicted, so that two
    batches are in memory.
    """
    added: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        for result in predict_examples(predictor, examples, batch_size):
            if len(added) == batch_size:
                added.popleft().result()
            added.append(thread.submit(evaluation.add, *result))
        for addition in added:
            addition.result()


def compare_masks(
    pairs: list[image_folders.Pair], keep: int, ignored: dict[str, pathlib.Path] | None = None
) -> Evaluation:
    """Evaluate mask files against label files, both read by the same rule.

    Args:
      pairs: of predicted masks and labels, of `image_folders.find_pairs`.
      keep: number of the worst and of the best images that are kept for pictures.
      ignored: masks of the pixels that do not count, by the name of the label.

    Raises:
      UserError: a file cannot be read, the sizes of two differ, or a label is ignored everywhere.
    """
    evaluation = Evaluation(("label",), 0.5, keep, has_probabilities=False)
    for predicted, labelled in pairs:
        prediction, label = (_read_mask(path) for path in (predicted, labelled))
        _check_sizes(predicted, prediction, labelled, label)
        valid = np.ones(label.shape, bool)
        if path := (ignored or {}).get(image_folders.stem_of(labelled)):
            valid = ~_read_mask(path)
            _check_sizes(path, valid, labelled, label)
        if not valid.any():
            raise UserError(f"{labelled} is ignored everywhere: remove it")
        image = prediction[..., None].astype(np.float32)
        example = {
            "name": image_folders.stem_of(predicted),
            "image": image,
            "label": (label & valid)[..., None],
            "valid": valid[..., None],
        }
        evaluation.add(example, image, None)
    return evaluation


def _check_sizes(path: pathlib.Path, mask: np.ndarray, other: pathlib.Path, label: np.ndarray):
    """Raise a `UserError` if a mask has another size than a label."""
    if mask.shape != label.shape:
        sizes = ["x".join(map(str, each.shape)) for each in (mask, label)]
        raise UserError(
            f"{path} is {sizes[0]}, and {other} is {sizes[1]} (height x width): make them one size"
        )


def _read_mask(path: pathlib.Path) -> np.ndarray:
    """Return the mask of a file `[H, W]` bool, and report what had to be assumed about it."""
    mask, notes = decoding.decode_mask(decoding.read_bytes(path), str(path))
    for note in notes:
        warn(f"{path} {note}")
    return mask
