"""What a person looks at: error maps, overlays and training curves."""

import pathlib

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

# Okabe and Ito's palette, which colour-blind people can tell apart.
FOUND, EMPTY = (235, 235, 235), (35, 35, 35)
MISSED, INVENTED = (86, 180, 233), (230, 159, 0)
OVERLAY = np.array((0, 114, 178))
LEGEND = (
    ("found", FOUND),
    ("missed", MISSED),
    ("invented", INVENTED),
    ("background", EMPTY),
)


def error_map(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Masks `[H, W]` to an RGB image `[H, W, 3]` uint8 of where they agree and differ."""
    out = np.empty((*label.shape, 3), np.uint8)
    out[label & prediction], out[~label & ~prediction] = FOUND, EMPTY
    out[label & ~prediction], out[~label & prediction] = MISSED, INVENTED
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


def confusion(
    path: pathlib.Path,
    title: str,
    image: np.ndarray,
    label: np.ndarray,
    prediction: np.ndarray,
    names: tuple[str, ...],
):
    """Draws image, label, prediction and error map side by side, a row a mask.

    Args:
      path: of the PNG.
      title: above it all.
      image: `[H, W, C]` float32 in [0, 1].
      label, prediction: `[H, W, L]` bool.
      names: of the L masks.
    """
    figure, axes = plt.subplots(
        len(names), 4, figsize=(13, 3.7 * len(names) + 0.3), squeeze=False, layout="constrained"
    )
    figure.suptitle(title, fontsize=12)
    for row, name in enumerate(names):
        panels = {
            "image": image if image.shape[-1] == 3 else image[..., 0],
            name: label[..., row],
            f"predicted {name}": prediction[..., row],
            "errors": error_map(label[..., row], prediction[..., row]),
        }
        for axis, (caption, panel) in zip(axes[row], panels.items(), strict=True):
            axis.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(caption, fontsize=10)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_color("0.5")
    figure.legend(
        handles=[Patch(color=np.array(colour) / 255, label=name) for name, colour in LEGEND],
        loc="outside lower center",
        ncols=len(LEGEND),
        fontsize=9,
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
