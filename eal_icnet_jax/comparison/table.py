"""The table of a comparison: its rows, their statistics and their text."""

import csv
import dataclasses
import io
import pathlib
import statistics

from scipy import stats
from tabulate import tabulate

from eal_icnet_jax.evaluation.metrics import COUNTS, METRICS

SIGNIFICANCE_LEVEL = 0.05
"""p-value below which two means differ."""

COSTS = ("parameters", "GFLOP", "images/s", "relative", "peak MB")
"""Headings of the costs of a network."""

HEADINGS = (*(name.replace("AJI_plus", "AJI+") for name in METRICS), *COUNTS.values())
"""Headings of the scores of a network."""


@dataclasses.dataclass
class Row:
    """The results of a network on one label.

    model, title: its name, and its name in print.
    label: of the mask.
    scores: values of each metric in [0, 1], and of each electrical count, one for each trial.
    seeds: of those trials.
    parameters: number of parameters.
    gflop: operations of one image, in 1e9.
    images_per_second, relative_speed, peak_bytes: of prediction, None if it was not measured. The
      relative speed is the speed over that of the reference network, in the same rounds.
    trial_seconds, training_peak_bytes: medians of the trials.
    curves: records of the epochs of each trial.
    """

    model: str
    title: str
    label: str
    scores: dict[str, list[float]]
    seeds: list[int]
    parameters: int
    gflop: float
    images_per_second: float | None
    relative_speed: float | None
    peak_bytes: int | None
    trial_seconds: float
    training_peak_bytes: float
    curves: list[list[dict]]

    def mean(self, metric: str) -> float:
        """Return the mean over trials."""
        return statistics.fmean(self.scores[metric])

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation over trials, None for a single trial."""
        values = self.scores[metric]
        return statistics.stdev(values) if len(values) > 1 else None


def differs(row: Row, reference: Row, metric: str) -> bool:
    """Return whether two means differ at 95%, by a paired t-test over trials of equal seeds."""
    others = dict(zip(reference.seeds, reference.scores[metric], strict=True))
    own = zip(row.seeds, row.scores[metric], strict=True)
    pairs = [(score, others[seed]) for seed, score in own if seed in others]
    differences = [a - b for a, b in pairs]
    if len(pairs) < 2 or len(set(differences)) < 2:  # the test needs a spread
        return False
    return bool(stats.ttest_rel(*zip(*pairs, strict=True)).pvalue < SIGNIFICANCE_LEVEL)


def duration(seconds: float) -> str:
    """Return a duration as text, such as "2 h 5 min"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


@dataclasses.dataclass
class Comparison:
    """The results of a comparison.

    rows: of all networks; the first row is of the network that the others are compared with.
    notes: sentences under the table.
    labels: names of the masks.
    shown: examples of the test split, with `name`, `image` and `label`.
    masks: folder of the predicted masks of those examples, `EXAMPLE_LABEL.png`, by network.
    """

    rows: list[Row]
    notes: list[str]
    labels: list[str]
    shown: list[dict]
    masks: dict[str, pathlib.Path]

    def rows_of_label(self, label: str) -> list[Row]:
        """Return the rows of one label."""
        return [row for row in self.rows if row.label == label]

    def formatted_rows(self) -> list[dict]:
        """Return the rows as text for templates: `title`, `label`, `scores` and `costs`."""
        formatted = []
        for label in self.labels:
            rows = self.rows_of_label(label)
            columns = [_formatted_scores(rows, name) for name in (*METRICS, *COUNTS)]
            for row, scores in zip(rows, zip(*columns, strict=True), strict=True):
                formatted.append(
                    {
                        "title": row.title,
                        "label": label,
                        "scores": scores,
                        "costs": _formatted_costs(row),
                    }
                )
        return formatted


def _formatted_scores(rows: list[Row], name: str) -> list[dict]:
    """Return a metric or count of all networks as text; the first row is the reference."""
    is_metric = name in METRICS
    text = _percent if is_metric else "{:.1f}".format
    means = [text(row.mean(name)) for row in rows]
    best = max(map(float, means))
    cells = []
    for row, mean in zip(rows, means, strict=True):
        deviation = row.deviation(name)
        cells.append(
            {
                "mean": mean,
                "deviation": "" if deviation is None else text(deviation),
                "differs": differs(row, rows[0], name),
                # The best count is not marked: a network that finds nothing has the fewest shorts.
                "best": is_metric and float(mean) == best,
            }
        )
    return cells


def _formatted_costs(row: Row) -> list[str]:
    """Return the cells of `COSTS`, empty where nothing was measured."""
    memory = None if row.peak_bytes is None else row.peak_bytes / 1e6
    return [
        f"{row.parameters:,}",
        f"{row.gflop:.1f}",
        _optional(row.images_per_second, ".3g"),
        _optional(row.relative_speed, ".2f"),
        _optional(memory, ",.0f"),
    ]


def terminal_table(rows: list[Row]) -> str:
    """Return a line for each network and label: the means, metrics in percent, and the speed."""
    headings = ("model", "label", *HEADINGS, "images/s")
    lines = [
        (
            row.model,
            row.label,
            *(_percent(row.mean(metric)) for metric in METRICS),
            *(f"{row.mean(count):.2f}" for count in COUNTS),
            _optional(row.images_per_second, ".3g"),
        )
        for row in rows
    ]
    align = ("left", "left", *["right"] * (len(headings) - 2))
    return tabulate(lines, headings, disable_numparse=True, colalign=align)


CSV_COSTS = (
    "parameters",
    "gflop",
    "images_per_second",
    "relative_speed",
    "peak_bytes",
    "trial_seconds",
    "training_peak_bytes",
)
"""Fields of `Row` that the CSV file holds after the scores."""


def csv_text(rows: list[Row]) -> str:
    """Return CSV of a line for each network and label: means, deviations in [0, 1], and costs."""
    records = []
    for row in rows:
        record = {"model": row.model, "label": row.label, "trials": len(row.seeds)}
        for name in (*METRICS, *COUNTS):
            record |= {name: row.mean(name), f"{name}_std": row.deviation(name)}
        records.append(record | {name: getattr(row, name) for name in CSV_COSTS})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
