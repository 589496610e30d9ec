"""Pictures for people to look at: error maps, evaluated images, contact sheets, training curves.

Figures are drawn without pyplot, so that neither a backend is chosen nor global state changed.
"""

import functools
import pathlib
import textwrap

import cv2
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from eal_icnet_jax.evaluation import electrical, metrics
from eal_icnet_jax.evaluation.calibration import Calibration
from eal_icnet_jax.imaging.overlays import BLUE, ORANGE, SKY_BLUE

# RGB colours: Okabe and Ito's palette, which colour-blind readers can tell apart, and greys.
FOUND, EMPTY = (235, 235, 235), (35, 35, 35)
MISSED, INVENTED = SKY_BLUE, ORANGE
IGNORED = (150, 150, 120)
SHORTED, OPENED, BOTH, LACKING = (213, 94, 0), BLUE, (204, 121, 167), (95, 95, 95)

LEGEND = (
    ("found", FOUND),
    ("missed", MISSED),
    ("invented", INVENTED),
    ("background", EMPTY),
    ("ignored", IGNORED),
)
"""Meaning and colour of each case of `error_map`."""

ELECTRICAL_LEGEND = (
    ("shorts nets", SHORTED),
    ("part of an open net", OPENED),
    ("both", BOTH),
    ("no net: false positive", INVENTED),
    ("no wire: false negative", MISSED),
    ("missing metal", LACKING),
)
"""Meaning and colour of each case of `electrical_map`."""


def error_map(
    label: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None = None
) -> np.ndarray:
    """Draw where two masks agree and differ, in the colours of `LEGEND`.

    Args:
      label: `[H, W]` bool.
      prediction: `[H, W]` bool.
      valid: `[H, W]` bool, the pixels that count; None for all.

    Returns:
      RGB `[H, W, 3]` uint8.
    """
    out = np.empty((*label.shape, 3), np.uint8)
    out[label & prediction], out[~label & ~prediction] = FOUND, EMPTY
    out[label & ~prediction], out[~label & prediction] = MISSED, INVENTED
    if valid is not None:
        out[~valid] = IGNORED
    return out


def electrical_map(
    label: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None = None
) -> np.ndarray:
    """Draw the electrical differences of two masks, in the colours of `ELECTRICAL_LEGEND`.

    Wires that match one net are light. A ring marks each place where a wire is open or joins two
    nets (`electrical.find_faults`).

    Args:
      label: `[H, W]` bool.
      prediction: `[H, W]` bool.
      valid: `[H, W]` bool, the pixels that count; None for all. The others have the colour of the
        ignored ones in `LEGEND`.

    Returns:
      RGB `[H, W, 3]` uint8.
    """
    nets, wires = metrics.MaskComparison(label, prediction, valid).electrical_regions()
    matching = electrical.match_masks(nets, wires)
    nets_per_wire, wires_per_net = matching.nets_per_wire(), matching.wires_per_net()
    is_open = matching.is_part_of_open()

    wire_colours = np.full((len(nets_per_wire), 3), FOUND, np.uint8)
    wire_colours[is_open], wire_colours[nets_per_wire > 1] = OPENED, SHORTED
    wire_colours[is_open & (nets_per_wire > 1)] = BOTH
    wire_colours[matching.wires & (nets_per_wire == 0)] = INVENTED
    wire_colours[~matching.wires] = EMPTY
    net_colours = np.full((len(wires_per_net), 3), EMPTY, np.uint8)
    net_colours[matching.nets] = LACKING
    net_colours[matching.nets & (wires_per_net == 0)] = MISSED
    is_wire = (wires.image > 0)[..., None]
    out = np.where(is_wire, wire_colours[wires.image], net_colours[nets.image])
    if valid is not None:
        out[~valid] = IGNORED

    thickness = max(1, max(label.shape) // 400)
    for fault in electrical.find_faults(nets, wires):
        if fault.kind in ("opens", "shorts"):
            centre = (fault.left + fault.right) // 2, (fault.top + fault.bottom) // 2
            radius = max(fault.right - fault.left, fault.bottom - fault.top) // 2 + 6 * thickness
            cv2.circle(out, centre, radius, (255, 255, 255), thickness, cv2.LINE_AA)
    return out


@functools.cache
def _glyphs() -> frozenset[int]:
    font = font_manager.findfont(font_manager.FontProperties())
    return frozenset(font_manager.get_font(font).get_charmap())


def printable_in_figures(text: str) -> str:
    """Replace the characters that the figures' font lacks by question marks."""
    return "".join(c if ord(c) in _glyphs() else "?" for c in text)


def draw_contact_sheet(
    path: pathlib.Path, rows: dict[str, list[tuple[str, np.ndarray, np.ndarray]]]
):
    """Draw rows of images, each above the same image with outlines.

    Args:
      path: PNG to write.
      rows: by their title; each cell has a caption and two RGB images `[H, W, 3]` of one size.
    """
    columns = max(map(len, rows.values()))
    shapes = [image.shape for cells in rows.values() for _, image, _ in cells]
    tallest = max(height / width for height, width, _ in shapes)
    size = 2.4 * columns + 0.3, (4.8 * tallest + 0.5) * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2 * len(rows), columns, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for row, (title, cells) in enumerate(rows.items()):
        for column, (caption, *images) in enumerate(cells):
            for k, image in enumerate(images):
                scale = min(1, 320 / max(image.shape))
                small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                axes[2 * row + k, column].imshow(small, interpolation="nearest")
            head = f"{title}\n" if column == 0 else "\n"
            text = textwrap.fill(printable_in_figures(caption), 34, max_lines=3)
            axes[2 * row, column].set_title(head + text, fontsize=7, loc="left")
    figure.savefig(path, dpi=120)


def draw_evaluation(
    path: pathlib.Path,
    title: str,
    image: np.ndarray,
    label: np.ndarray,
    prediction: np.ndarray,
    names: tuple[str, ...],
    valid: np.ndarray,
):
    """Draw image, label, prediction, error map and electrical map side by side, one row per mask.

    Args:
      path: PNG to write.
      title: of the figure.
      image: `[H, W, C]` float32 in [0, 1].
      label: `[H, W, L]` bool.
      prediction: `[H, W, L]` bool.
      names: of the L masks.
      valid: `[H, W]` bool, the pixels that count.
    """
    figure = Figure(figsize=(16, 3.6 * len(names) + 0.6), layout="constrained")
    axes = figure.subplots(len(names), 5, squeeze=False)
    figure.suptitle(printable_in_figures(title), fontsize=12)
    for row, name in enumerate(names):
        masks = label[..., row], prediction[..., row]
        panels = {
            "image": image if image.shape[-1] == 3 else image[..., 0],
            name: masks[0],
            f"predicted {name}": masks[1],
            "errors": error_map(*masks, valid),
            "electrically": electrical_map(*masks, valid),
        }
        for axis, (caption, panel) in zip(axes[row], panels.items(), strict=True):
            axis.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(caption, fontsize=10)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_color("0.5")
    for legend, heading, place in (
        (LEGEND, "errors", "outside lower left"),
        (ELECTRICAL_LEGEND, "electrically", "outside lower right"),
    ):
        figure.legend(
            handles=[Patch(color=np.array(colour) / 255, label=text) for text, colour in legend],
            loc=place,
            title=heading,
            ncols=len(legend),
            fontsize=9,
            title_fontsize=9,
            facecolor="0.75",
        )
    figure.savefig(path, dpi=100)


def draw_reliability(path: pathlib.Path, calibrations: dict[str, Calibration]):
    """Draw how often pixels of each predicted probability are foreground.

    Args:
      path: PNG to write.
      calibrations: by label.
    """
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="ideal")
    for (name, each), colour in zip(calibrations.items(), ("#0072B2", "#E69F00") * 8, strict=False):
        predicted, observed = each.diagram()
        text = f"{printable_in_figures(name)}, ECE {100 * each.expected_error:.2f}%"
        axis.plot(predicted, observed, "o-", color=colour, label=text)
    axis.set(xlabel="predicted probability", ylabel="part that is foreground")
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def draw_curves(path: pathlib.Path, records: list[dict]):
    """Draw the losses and the validation metrics after each epoch.

    Args:
      path: PNG to write.
      records: lines of metrics.jsonl; those with a `validation_loss` end an epoch.
    """
    epochs = [record for record in records if "validation_loss" in record]
    x = [record["epoch"] for record in epochs]
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    loss_axis, metric_axis = figure.subplots(1, 2)
    for name, style, colour in (("train", "o-", "#0072B2"), ("validation", "s-", "#E69F00")):
        losses = [record[f"{name}_loss"] for record in epochs]
        loss_axis.plot(x, losses, style, color=colour, label=name)
    loss_axis.set(xlabel="epoch", ylabel="loss", yscale="log")
    names = [name for name in epochs[0] if name.startswith("validation/")]
    for name, style in zip(names, ("o-", "s-", "^-", "v-", "d-") * len(names), strict=False):
        values = [record[name] for record in epochs]
        metric_axis.plot(x, values, style, label=name.removeprefix("validation/"))
    metric_axis.set(xlabel="epoch", ylabel="validation metric")
    for axis in (loss_axis, metric_axis):
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)
