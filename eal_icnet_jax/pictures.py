"""What a person looks at: error maps, overlays and training curves."""

import functools
import pathlib
import textwrap

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.patches import Patch

from eal_icnet_jax import electrical, metrics

# Okabe and Ito's palette, which colour-blind people can tell apart.
FOUND, EMPTY = (235, 235, 235), (35, 35, 35)
MISSED, INVENTED = (86, 180, 233), (230, 159, 0)
SHORTED, OPENED, BOTH, LACKING = (213, 94, 0), (0, 114, 178), (204, 121, 167), (95, 95, 95)
OVERLAY = np.array((0, 114, 178))
LEGEND = (
    ("found", FOUND),
    ("missed", MISSED),
    ("invented", INVENTED),
    ("background", EMPTY),
)
ELECTRICAL_LEGEND = (
    ("shorts nets", SHORTED),
    ("of an open net", OPENED),
    ("both", BOTH),
    ("no net: false positive", INVENTED),
    ("no wire: false negative", MISSED),
    ("label's metal that is lacking", LACKING),
)


def error_map(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Masks `[H, W]` to an RGB image `[H, W, 3]` uint8 of where they agree and differ."""
    out = np.empty((*label.shape, 3), np.uint8)
    out[label & prediction], out[~label & ~prediction] = FOUND, EMPTY
    out[label & ~prediction], out[~label & prediction] = MISSED, INVENTED
    return out


def electrical_map(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Masks `[H, W]` to an RGB image `[H, W, 3]` uint8 of what is electrically wrong.

    Wires that match one net are light; the others have the colours of `ELECTRICAL_LEGEND`. A ring
    marks each place where a wire is open or joins two nets (`electrical.faults`).
    """
    nets, wires = metrics.electrical_regions(label, prediction)
    matching = electrical.match_masks(nets, wires)
    of_wire, of_net = matching.nets_of_wires(), matching.wires_of_nets()
    opened = matching.opened()

    colours = np.full((len(of_wire), 3), FOUND, np.uint8)
    colours[opened], colours[of_wire > 1] = OPENED, SHORTED
    colours[opened & (of_wire > 1)] = BOTH
    colours[matching.wires & (of_wire == 0)] = INVENTED
    colours[~matching.wires] = EMPTY
    lacking = np.full((len(of_net), 3), EMPTY, np.uint8)
    lacking[matching.nets] = LACKING
    lacking[matching.nets & (of_net == 0)] = MISSED
    out = np.where(prediction[..., None], colours[wires.image], lacking[nets.image])

    thickness = max(1, max(label.shape) // 400)
    for fault in electrical.faults(nets, wires):
        if fault.kind in ("opens", "shorts"):
            centre = (fault.left + fault.right) // 2, (fault.top + fault.bottom) // 2
            reach = max(fault.right - fault.left, fault.bottom - fault.top) // 2
            cv2.circle(out, centre, reach + 6 * thickness, (255, 255, 255), thickness, cv2.LINE_AA)
    return out


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask over the image: a blue tint with an orange outline.

    Args:
      image: `[H, W, 1 or 3]` float32 in [0, 1].
      mask: `[H, W]` bool.

    Returns:
      RGB `[H, W, 3]` uint8.
    """
    out = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
    out = np.rint(255 * out)
    out[mask] = 0.65 * out[mask] + 0.35 * OVERLAY
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    out[mask & ~core] = INVENTED
    return out.astype(np.uint8)


def outlined(image: np.ndarray, masks: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The image as RGB `[H, W, 3]`, without and with the outlines of its masks.

    Args:
      image: `[H, W, 1 or 3]` uint8.
      masks: `[H, W]` bool by name; the first is drawn orange, the second blue.
    """
    image = np.repeat(image, 3 // image.shape[-1], -1)
    marked = image.copy()
    for mask, colour in zip(masks.values(), (INVENTED, MISSED), strict=False):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(marked, contours, -1, colour, max(1, len(image) // 256))
    return image, marked


def contact_sheet(path: pathlib.Path, rows: dict[str, list[tuple[str, np.ndarray, np.ndarray]]]):
    """Draws rows of images, each above its outlined twin.

    Args:
      path: of the PNG.
      rows: by their title, each cell a caption and two RGB images `[H, W, 3]` of one size.
    """
    columns = max(map(len, rows.values()))
    shapes = [image.shape for drawn in rows.values() for _, image, _ in drawn]
    tallest = max(height / width for height, width, _ in shapes)
    figure, axes = plt.subplots(
        2 * len(rows),
        columns,
        figsize=(2.4 * columns + 0.3, (4.8 * tallest + 0.5) * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.ravel():
        axis.axis("off")
    for row, (title, drawn) in enumerate(rows.items()):
        for column, (caption, *pair) in enumerate(drawn):
            for k, image in enumerate(pair):
                small = cv2.resize(image, None, fx=(scale := min(1, 320 / max(image.shape))),
                                   fy=scale, interpolation=cv2.INTER_AREA)  # fmt: skip
                axes[2 * row + k, column].imshow(small, interpolation="nearest")
            head = f"{title}\n" if column == 0 else "\n"
            text = textwrap.fill(printable(caption), 34, max_lines=3)
            axes[2 * row, column].set_title(head + text, fontsize=7, loc="left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


@functools.cache
def _glyphs() -> frozenset[int]:
    font = font_manager.findfont(font_manager.FontProperties())
    return frozenset(font_manager.get_font(font).get_charmap())


def printable(text: str) -> str:
    """The text with what the font of the pictures lacks as question marks."""
    return "".join(c if ord(c) in _glyphs() else "?" for c in text)


def confusion(
    path: pathlib.Path,
    title: str,
    image: np.ndarray,
    label: np.ndarray,
    prediction: np.ndarray,
    names: tuple[str, ...],
):
    """Draws image, label, prediction, error map and electrical map side by side, a row a mask.

    Args:
      path: of the PNG.
      title: above it all.
      image: `[H, W, C]` float32 in [0, 1].
      label, prediction: `[H, W, L]` bool.
      names: of the L masks.
    """
    figure, axes = plt.subplots(
        len(names), 5, figsize=(16, 3.6 * len(names) + 0.6), squeeze=False, layout="constrained"
    )
    figure.suptitle(printable(title), fontsize=12)
    for row, name in enumerate(names):
        panels = {
            "image": image if image.shape[-1] == 3 else image[..., 0],
            name: label[..., row],
            f"predicted {name}": prediction[..., row],
            "errors": error_map(label[..., row], prediction[..., row]),
            "electrically": electrical_map(label[..., row], prediction[..., row]),
        }
        for axis, (caption, panel) in zip(axes[row], panels.items(), strict=True):
            axis.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(caption, fontsize=10)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_color("0.5")
    for legend, title, place in (
        (LEGEND, "errors", "outside lower left"),
        (ELECTRICAL_LEGEND, "electrically", "outside lower right"),
    ):
        figure.legend(
            handles=[Patch(color=np.array(colour) / 255, label=name) for name, colour in legend],
            loc=place,
            title=title,
            ncols=len(legend),
            fontsize=9,
            title_fontsize=9,
            facecolor="0.75",
        )
    figure.savefig(path, dpi=100)
    plt.close(figure)


def curves(path: pathlib.Path, records: list[dict]):
    """Draws the losses and the validation metrics of each epoch.

    Args:
      path: of the PNG.
      records: lines of metrics.jsonl; those with a `validation_loss` end an epoch.
    """
    epochs = [record for record in records if "validation_loss" in record]
    x = [record["epoch"] for record in epochs]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    left.plot(x, [record["train_loss"] for record in epochs], "o-", color="#0072B2", label="train")
    left.plot(
        x,
        [record["validation_loss"] for record in epochs],
        "s-",
        color="#E69F00",
        label="validation",
    )
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    names = [name for name in epochs[0] if name.startswith("validation/")]
    for name, style in zip(names, ("o-", "s-", "^-", "v-", "d-") * len(names), strict=False):
        right.plot(x, [record[name] for record in epochs], style, label=name.split("/", 1)[1])
    right.set(xlabel="epoch", ylabel="validation metric")
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)
