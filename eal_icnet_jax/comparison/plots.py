"""The plots of a comparison: accuracy against cost, and the training curves."""

import io
import statistics

import adjustText
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from eal_icnet_jax.comparison.table import Comparison, Row

COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8c8c3c")
"""Colours of the training curves, mostly Okabe and Ito's, which are safe for the colour-blind."""

DASHES = ("-", "--", ":")
"""Line styles of the training curves, once the colours are used up."""

FIRST_COLOUR, OTHER_COLOUR = "#D55E00", "#555555"
"""Colours of the first network and of the others, against cost."""

MARKER_RADIUS = 6
"""Pixels around the centre of a marker that titles keep clear of."""

BAR_SPACE = np.array([(-2, 0), (2, 0)])
"""Offsets in pixels of the lower left and upper right corner of what titles keep clear of."""


def _two_panels() -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(11.2, 4.4), layout="constrained")
    return figure, tuple(figure.subplots(1, 2))


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, dpi=110)
    return out.getvalue()


def cost_plot(comparison: Comparison) -> bytes:
    """Return a PNG of mIoU against operations, and against speed where it was measured."""
    figure, axes = _two_panels()
    label = comparison.labels[0]
    rows = comparison.rows_of_label(label)
    panels = (("gflop", "GFLOP per image"), ("images_per_second", "images per second"))
    for axis, (attribute, title) in zip(axes, panels, strict=True):
        drawn = [row for row in rows if getattr(row, attribute) is not None]
        for row in drawn:
            axis.errorbar(
                getattr(row, attribute),
                100 * row.mean("mIoU"),
                100 * (row.deviation("mIoU") or 0) or None,
                fmt="o",
                color=FIRST_COLOUR if row is rows[0] else OTHER_COLOUR,
                capsize=2,
                linewidth=1,
            )
        axis.set_xscale("log")
        axis.margins(0.12, 0.08)
        axis.set(xlabel=title, ylabel=f"mIoU, percent ({label})")
        axis.grid(alpha=0.3, which="both")
        _plain_ticks(axis.xaxis)
        _label_points(axis, drawn, attribute)
    return _png(figure)


def _plain_ticks(axis: Axis):
    """Write numbers without powers of ten along a logarithmic axis."""
    axis.set_major_formatter("{x:g}")
    low, high = axis.get_view_interval()
    axis.set_minor_formatter("{x:.2g}" if high < 10 * low else "")


def _label_points(axis: Axes, rows: list[Row], attribute: str):
    """Write titles beside their points, clear of each other, of the markers and error bars."""
    if not rows:
        return
    axis.figure.canvas.draw()  # fixes the layout, in which adjustText works
    to_pixels, to_data = axis.transData.transform, axis.transData.inverted().transform
    points = np.array([(getattr(row, attribute), 100 * row.mean("mIoU")) for row in rows])
    bars = np.array([(0, 100 * (row.deviation("mIoU") or 0)) for row in rows])
    centres = to_pixels(points)
    corners = np.concatenate(
        [
            np.stack([centres - MARKER_RADIUS, centres + MARKER_RADIUS], 1),
            np.stack([to_pixels(points - bars), to_pixels(points + bars)], 1) + BAR_SPACE,
        ]
    )
    obstacles = [Bbox(to_data(pair)) for pair in corners]
    starts = to_data(centres + np.array((MARKER_RADIUS + 2, 0)))
    texts = [
        axis.text(*start, row.title, fontsize=8, va="center")
        for start, row in zip(starts, rows, strict=True)
    ]
    adjustText.adjust_text(
        texts,
        objects=obstacles,
        target_x=points[:, 0],
        target_y=points[:, 1],
        avoid_self=False,
        expand=(1.02, 1.1),
        force_explode=0.0,
        force_static=(0.2, 0.4),
        min_arrow_len=2 * MARKER_RADIUS,
        iter_lim=500,  # rather than a time limit, so that the same results give the same plot
        ax=axis,
        arrowprops={"arrowstyle": "-", "color": "#888888", "linewidth": 0.6},
    )


def _styles(rows: list[Row]) -> dict[str, dict]:
    """Return a colour and a line style for each network."""
    models = dict.fromkeys(row.model for row in rows)
    return {
        model: {
            "color": COLOURS[k % len(COLOURS)],
            "linestyle": DASHES[k // len(COLOURS) % len(DASHES)],
        }
        for k, model in enumerate(models)
    }


def _curve(row: Row, key: str) -> dict[int, float]:
    """Return a logged value by epoch, averaged over the trials that reached the epoch."""
    values: dict[int, list[float]] = {}
    names = (key, f"validation/{key}", f"validation/{row.label}/{key}")
    for record in (record for trial in row.curves for record in trial):
        value = next(record[name] for name in names if name in record)
        values.setdefault(record["epoch"], []).append(value)
    return {epoch: statistics.fmean(values[epoch]) for epoch in sorted(values)}


def training_plot(comparison: Comparison) -> bytes:
    """Return a PNG of the validation loss and mIoU by epoch."""
    figure, axes = _two_panels()
    label = comparison.labels[0]
    styles = _styles(comparison.rows)
    for axis, key, scale in zip(axes, ("validation_loss", "mIoU"), (1, 100), strict=True):
        for row in comparison.rows_of_label(label):
            curve = _curve(row, key)
            values = [scale * value for value in curve.values()]
            axis.plot(list(curve), values, marker=".", label=row.title, **styles[row.model])
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.set_xlabel("epoch")
    axes[0].set(ylabel="validation loss", yscale="log")
    _plain_ticks(axes[0].yaxis)
    axes[1].set(ylabel=f"validation mIoU, percent ({label})")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return _png(figure)
