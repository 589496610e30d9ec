"""What a comparison of networks reaches and costs: tables, a plot and a page."""

import base64
import csv
import dataclasses
import io
import pathlib
import statistics

import cv2
import jinja2
import numpy as np
from matplotlib import pyplot as plt
from scipy import stats

from eal_icnet_jax import images, pictures
from eal_icnet_jax.files import write_whole
from eal_icnet_jax.metrics import COUNTS, METRICS

SIGNIFICANT = 0.05
COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8c8c3c")
DASHES = ("-", "--", ":")
OURS, OTHERS = "#D55E00", "#555555"


@dataclasses.dataclass
class Row:
    """A network's figures on one label.

    model, title: its name, and its name in print.
    label: the mask.
    scores: each metric's values in [0, 1], one a trial, and the electrical counts likewise.
    seeds: of those trials, for pairs.
    parameters: how many.
    gflop: of one image.
    images_per_second, relative_speed, peak_bytes: of prediction; the second by the first network's
      in the same rounds. None where it was not measured.
    trial_seconds, training_peak_bytes: medians of the trials.
    curves: each trial's records of its epochs.
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
        return statistics.fmean(self.scores[metric])

    def deviation(self, metric: str) -> float | None:
        """The standard deviation over trials, of two and more."""
        values = self.scores[metric]
        return statistics.stdev(values) if len(values) > 1 else None


def differs(row: Row, reference: Row, metric: str) -> bool:
    """Whether a paired t-test over trials of the same seeds tells two means apart at 95%."""
    others = dict(zip(reference.seeds, reference.scores[metric], strict=True))
    own = zip(row.seeds, row.scores[metric], strict=True)
    pairs = [(score, others[seed]) for seed, score in own if seed in others]
    differences = [a - b for a, b in pairs]
    if len(pairs) < 2 or len(set(differences)) < 2:  # without spread the test knows nothing
        return False
    return bool(stats.ttest_rel(*zip(*pairs, strict=True)).pvalue < SIGNIFICANT)


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


@dataclasses.dataclass
class Comparison:
    """All rows, those of the network that the others are compared with first, and what was done.

    about: sentences under the table.
    shown: examples of the test split, with `name`, `image` and `label`.
    masks: what each model predicts of them: a folder of `EXAMPLE_LABEL.png` by model.
    """

    rows: list[Row]
    about: list[str]
    labels: list[str]
    shown: list[dict]
    masks: dict[str, pathlib.Path]

    def of_label(self, label: str) -> list[Row]:
        return [row for row in self.rows if row.label == label]

    def table(self) -> list[dict]:
        """The rows as text: the metrics in percent, the best marked, and whether they differ."""
        out = []
        for label in self.labels:
            rows = self.of_label(label)
            means = {m: [_percent(row.mean(m)) for row in rows] for m in METRICS}
            means |= {count: [f"{row.mean(count):.1f}" for row in rows] for count in COUNTS}
            for number, row in enumerate(rows):
                scores = []
                for name, column in means.items():
                    deviation = row.deviation(name)
                    if name in METRICS:
                        best = float(column[number]) == max(map(float, column))
                        told = deviation and _percent(deviation)
                    else:  # none is marked: who finds nothing has the fewest shorts
                        best, told = False, _number(deviation, ".1f")
                    scores.append(
                        {
                            "mean": column[number],
                            "deviation": told or "",
                            "differs": differs(row, rows[0], name),
                            "best": best,
                        }
                    )
                memory = None if row.peak_bytes is None else row.peak_bytes / 1e6
                costs = [
                    f"{row.parameters:,}",
                    f"{row.gflop:.1f}",
                    _number(row.images_per_second, ".3g"),
                    _number(row.relative_speed, ".2f"),
                    _number(memory, ",.0f"),
                ]
                out.append({"title": row.title, "label": label, "scores": scores, "costs": costs})
        return out


COSTS = ("parameters", "GFLOP", "images/s", "relative", "peak MB")
HEADINGS = (*(name.replace("AJI_plus", "AJI+") for name in METRICS), *COUNTS.values())


_LATEX = str.maketrans({"\\": " ", **{character: f"\\{character}" for character in "&%$#_{}"}})


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("eal_icnet_jax"),
    autoescape=jinja2.select_autoescape(("html.jinja",)),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["latex"] = lambda text: text.translate(_LATEX)


def write(folder: pathlib.Path, comparison: Comparison):
    """Writes comparison.md, .csv, .tex, .png and .html into a folder.

    Raises:
      UserError: they cannot be written.
    """
    common = {
        "table": comparison.table(),
        "labels": comparison.labels,
        "about": comparison.about,
        "headings": HEADINGS,
        "costs": COSTS,
    }
    plots = {
        "cost": _two_panels(draw_cost, comparison),
        "curves": _two_panels(draw_curves, comparison),
    }
    write_whole(folder / "comparison.csv", as_csv(comparison.rows))
    for ending in ("md", "tex"):
        text = _TEMPLATES.get_template(f"comparison.{ending}.jinja").render(**common)
        write_whole(folder / f"comparison.{ending}", text)
    write_whole(folder / "comparison.png", plots["cost"])
    page = _TEMPLATES.get_template("comparison.html.jinja").render(
        **common,
        plots={name: _data_uri(png, "png") for name, png in plots.items()},
        predictions=_predictions(comparison),
        legend=[(name, f"rgb{colour}") for name, colour in pictures.LEGEND],
    )
    write_whole(folder / "comparison.html", page)


def terminal(rows: list[Row]) -> str:
    """A line a network and label: the means in percent, and the speed."""
    heads = "".join(f"{name:>9s}" for name in HEADINGS)
    lines = [f"{'model':28s}{'label':12s}{heads}{'images/s':>10s}"]
    for row in rows:
        means = "".join(f"{100 * row.mean(metric):9.2f}" for metric in METRICS)
        means += "".join(f"{row.mean(count):9.1f}" for count in COUNTS)
        speed = _number(row.images_per_second, ".3g")
        lines.append(f"{row.model:28s}{row.label:12s}{means}{speed:>10s}")
    return "\n".join(lines)


def as_csv(rows: list[Row]) -> str:
    """A line a network and label: means and deviations in [0, 1], and the costs."""
    out = io.StringIO()
    writer = None
    for row in rows:
        record = {"model": row.model, "label": row.label, "trials": len(row.scores[METRICS[0]])}
        for name in (*METRICS, *COUNTS):
            record |= {name: row.mean(name), f"{name}_std": row.deviation(name)}
        own = dataclasses.asdict(row)
        record |= {key: own[key] for key in (
            "parameters", "gflop", "images_per_second", "relative_speed", "peak_bytes",
            "trial_seconds", "training_peak_bytes")}  # fmt: skip
        if writer is None:
            writer = csv.DictWriter(out, list(record), lineterminator="\n")
            writer.writeheader()
        writer.writerow(record)
    return out.getvalue()


def _two_panels(draw, comparison: Comparison) -> bytes:
    """A PNG of two axes side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(11.2, 4.4), layout="constrained")
    draw(axes, comparison)
    out = io.BytesIO()
    figure.savefig(out, dpi=110)
    plt.close(figure)
    return out.getvalue()


def _styles(comparison: Comparison) -> dict[str, dict]:
    """A colour and dash for each network."""
    models = dict.fromkeys(row.model for row in comparison.rows)
    return {
        model: {
            "color": COLOURS[k % len(COLOURS)],
            "linestyle": DASHES[k // len(COLOURS) % len(DASHES)],
        }
        for k, model in enumerate(models)
    }


def draw_cost(axes, comparison: Comparison):
    """Accuracy against operations, and against speed where it was measured."""
    rows = comparison.of_label(comparison.labels[0])
    panels = (("gflop", "GFLOP an image"), ("images_per_second", "images a second"))
    for axis, (attribute, label) in zip(axes, panels, strict=True):
        drawn = [row for row in rows if getattr(row, attribute) is not None]
        for row in drawn:
            deviation = row.deviation("mIoU")
            axis.errorbar(
                getattr(row, attribute),
                100 * row.mean("mIoU"),
                100 * deviation if deviation else None,
                fmt="o",
                color=OURS if row is rows[0] else OTHERS,
                capsize=2,
                linewidth=1,
            )
        axis.set_xscale("log")
        axis.margins(0.12, 0.08)
        axis.set(xlabel=label, ylabel=f"mIoU, percent ({comparison.labels[0]})")
        axis.grid(alpha=0.3, which="both")
        _plain_ticks(axis.xaxis)
        axis.figure.canvas.draw()
        _label_points(
            axis,
            [(getattr(row, attribute), 100 * row.mean("mIoU"), row.title) for row in drawn],
        )


def _plain_ticks(axis):
    """Numbers as they are, rather than powers of ten, along a logarithmic axis."""
    axis.set_major_formatter("{x:g}")
    low, high = axis.get_view_interval()
    near = high < 10 * low
    axis.set_minor_formatter("{x:.2g}" if near else "")


def _label_points(axis, points: list[tuple[float, float, str]]):
    """Titles right of their points, or left of those near the edge, moved down past others."""
    box = axis.get_window_extent()
    centres = [axis.transData.transform((x, y)) for x, y, _ in points]
    placed = [(x - 5, y - 5, x + 5, y + 5) for x, y in centres]
    for x, y, title in sorted(points, key=lambda point: -point[1]):
        at_x, at_y = axis.transData.transform((x, y))
        width, height = 6.2 * len(title) * axis.figure.dpi / 100, 13 * axis.figure.dpi / 100
        to_left = at_x + width + 8 > box.x1
        left = at_x - width - 7 if to_left else at_x + 7
        bottom = at_y - height / 2
        while any(
            left < right_ and left_ < left + width and bottom < top_ and bottom_ < bottom + height
            for left_, bottom_, right_, top_ in placed
        ):
            bottom -= height / 4
        placed.append((left, bottom, left + width, bottom + height))
        scale = 72 / axis.figure.dpi
        axis.annotate(
            title,
            (x, y),
            xytext=((-7 if to_left else 7) * scale, (bottom + height / 2 - at_y) * scale),
            textcoords="offset points",
            ha="right" if to_left else "left",
            va="center",
            fontsize=8,
        )


def draw_curves(axes, comparison: Comparison):
    """The validation loss and mIoU of each epoch, averaged over the trials that reached it."""
    label = comparison.labels[0]
    styles = _styles(comparison)
    keys = ("validation_loss", "mIoU")
    for axis, key in zip(axes, keys, strict=True):
        for row in comparison.of_label(label):
            by_epoch: dict[int, list[float]] = {}
            for record in (record for trial in row.curves for record in trial):
                names = (key, f"validation/{key}", f"validation/{label}/{key}")
                value = next(record[name] for name in names if name in record)
                by_epoch.setdefault(record["epoch"], []).append(value)
            epochs = sorted(by_epoch)
            scale = 100 if key == "mIoU" else 1
            values = [scale * statistics.fmean(by_epoch[epoch]) for epoch in epochs]
            axis.plot(epochs, values, marker=".", label=row.title, **styles[row.model])
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.set_xlabel("epoch")
    axes[0].set(ylabel="validation loss", yscale="log")
    _plain_ticks(axes[0].yaxis)
    axes[1].set(ylabel=f"validation mIoU, percent ({label})")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _predictions(comparison: Comparison) -> dict:
    """What the page flips through: images, labels and each network's errors as data URIs."""
    models = dict.fromkeys((row.model, row.title) for row in comparison.rows)
    models = [(name, title) for name, title in models if name in comparison.masks]
    examples = []
    for number, example in enumerate(comparison.shown):
        picture = np.rint(255 * example["image"]).astype(np.uint8)
        picture = picture[..., ::-1] if picture.shape[-1] == 3 else picture
        photograph = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 90))[1].tobytes()
        for k, label in enumerate(comparison.labels):
            truth = example["label"][..., k]
            errors = []
            for name, _ in models:
                path = comparison.masks[name] / f"{number}_{k}.png"
                mask = images.decode(path.read_bytes(), str(path)) > 0
                errors.append(_data_uri(images.encode(pictures.error_map(truth, mask)), "png"))
            examples.append(
                {
                    "name": example["name"] + (f", {label}" if len(comparison.labels) > 1 else ""),
                    "image": _data_uri(photograph, "jpeg"),
                    "label": _data_uri(images.encode(255 * truth.astype(np.uint8)), "png"),
                    "errors": errors,
                }
            )
    return {"models": [title for _, title in models], "examples": examples}
