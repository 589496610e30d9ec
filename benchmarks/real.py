"""Accuracy on real photographs with labels, with the defaults of `eal-icnet predict`.

    python benchmarks/real.py --data=DIR --models=otsu,demo=demo/run,packaged --output=OUT

DIR holds a folder for each set, with `image` (any format), `metal` (a mask of the topmost layer),
`via` where there are labelled vias, and `valid`, a mask of the pixels that count, where not all do.
A label of another size is brought to the image's. `otsu` is Otsu's threshold, `packaged` the
weights that the command chooses, NAME=CHECKPOINT any other. `+tta` and `+multiscale` after a name
are the command's options, as in `packaged+multiscale`. `--magnify=0.5,1,2` also measures magnified
images. Writes real.csv, real.md and real.png.
"""

import argparse
import csv
import pathlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tabulate import tabulate

from eal_icnet_jax.evaluation import metrics, pictures
from eal_icnet_jax.imaging import decoding, mosaic_files, pixel_values, png
from eal_icnet_jax.inference.prediction_models import is_coloured

WHOLE = slice(None), slice(None)

OTSU = "Otsu's threshold"
"""Stands for a model."""

CELL = 420
"""Side in pixels of a picture on the contact sheet."""


def find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Return the image file of a name in a folder, with any ending."""
    return next((p for p in sorted(folder.glob(f"{name}.*")) if p.suffix != ".txt"), None)


def read_mask(path: pathlib.Path | None, shape: tuple[int, int]) -> np.ndarray | None:
    """Read a mask in an image's size; None without a file."""
    if path is None:
        return None
    mask, _ = decoding.decode_mask(decoding.read_bytes(path), str(path))
    if mask.shape != shape:
        size = shape[::-1]
        mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return mask


class Labelled(NamedTuple):
    """A photograph `[H, W]` or `[H, W, 3]`, and its masks `[H, W]` bool; `via` may be None.

    source: what is predicted: the file, which may state its level of white, or the image.
    has_colour: whether the command takes it for one of an optical microscope.
    """

    name: str
    source: pathlib.Path | np.ndarray
    image: np.ndarray
    metal: np.ndarray
    via: np.ndarray | None
    valid: np.ndarray
    has_colour: bool


def labelled_photographs(data: pathlib.Path, names: str = "") -> Iterator[Labelled]:
    """Yield the sets of a folder, or only those named, separated by commas."""
    wanted = [name for name in names.split(",") if name]
    for folder in sorted(data.iterdir()):
        metal = find(folder, "metal") if folder.is_dir() else None
        if metal is None or (wanted and folder.name not in wanted):
            continue
        path = find(folder, "image")
        mosaic = mosaic_files.open_mosaic(path)
        masks = {name: read_mask(find(folder, name), mosaic.shape) for name in ("via", "valid")}
        if masks["valid"] is None:
            masks["valid"] = np.ones(mosaic.shape, bool)
        image, metal = mosaic[WHOLE], read_mask(metal, mosaic.shape)
        yield Labelled(folder.name, path, image, metal, **masks, has_colour=is_coloured(mosaic))


def otsu(image: np.ndarray) -> list[np.ndarray]:
    """Return the metal that Otsu's threshold finds."""
    grey = (255 * pixel_values.to_unit_range(image, 1)[..., 0]).astype(np.uint8)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    return [grey > level]


def predict(image: pathlib.Path | np.ndarray, model, **options: bool) -> list[np.ndarray]:
    """Return the masks that `eal-icnet predict` writes with options, such as `tta=True`."""
    from eal_icnet_jax.inference.image_prediction import ImagePredictor

    predicted = ImagePredictor(model, **options)(image)
    for note in predicted.notes:
        print(f"    {note}")
    return list(predicted.masks.values())


def detection(label: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Return precision, recall and F1 of vias: each pairs with the nearest one at half its radius.

    The radius is that of a circle of the label's area; every via has at most one partner.
    """
    centres, radii = [], []
    for mask in (label, prediction):
        _, _, statistics, middle = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        centres.append(middle[1:])
        radii.append(np.sqrt(statistics[1:, cv2.CC_STAT_AREA] / np.pi))
    true, found = centres
    hits, used = 0, np.zeros(len(found), bool)
    for centre, radius in zip(true, radii[0], strict=True):
        if not len(found):
            break
        distance = np.hypot(*(found - centre).T)
        distance[used] = np.inf
        nearest = int(np.argmin(distance))
        if distance[nearest] <= max(radius / 2, 1):
            used[nearest], hits = True, hits + 1
    precision = hits / len(found) if len(found) else 0.0
    recall = hits / len(true) if len(true) else 0.0
    return {
        "via_precision": precision,
        "via_recall": recall,
        "via_F1": 2 * precision * recall / max(precision + recall, 1e-9),
    }


def score(label: np.ndarray, prediction: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """Return the figures of one metal mask on valid pixels."""
    comparison = metrics.MaskComparison(label, prediction, valid)
    values, differences = comparison.metrics(), comparison.differences()
    nets = max(differences.nets, 1)
    return {
        "mIoU": values["mIoU"],
        "Dice": values["Dice"],
        "AJI": values["AJI"],
        "nets": differences.nets,
        "opens": 100 * differences.opens / nets,
        "shorts": 100 * differences.shorts / nets,
        "FP": differences.false_positives,
        "FN": differences.false_negatives,
    }


def cell(image: np.ndarray) -> np.ndarray:
    """Return the middle of a picture, RGB, `CELL` pixels a side, magnified if it is small."""
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
    side = min(*image.shape[:2], CELL)
    top, left = (length // 2 - side // 2 for length in image.shape[:2])
    part = image[top : top + side, left : left + side]
    return cv2.resize(part, (CELL, CELL), interpolation=cv2.INTER_NEAREST)


def heading(titles: list[str]) -> np.ndarray:
    """Return the titles of the columns of a contact sheet as a picture."""
    image = Image.new("RGB", (CELL * len(titles), 36), "white")
    draw = ImageDraw.Draw(image)
    for column, title in enumerate(titles):
        draw.text((CELL * column + 8, 6), title, "black", ImageFont.load_default(20))
    return np.asarray(image)


def magnified(photograph: Labelled, factor: float) -> Labelled:
    """Return a photograph whose image is magnified."""
    if factor == 1:
        return photograph
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    image = cv2.resize(photograph.image, None, fx=factor, fy=factor, interpolation=method)
    name = f"{photograph.name} x{factor:g}"
    return photograph._replace(name=name, source=image, image=image)


def measure(photograph: Labelled, models: dict, rows: list, sheet: list):
    """Measure all models on one set, and add their rows and their line of the contact sheet.

    Masks of a magnified image are brought to the size of the label.
    """
    name_of_set, source, image, label, via, valid, _ = photograph
    line = [cell(image), cell(255 * label.astype(np.uint8))]
    for name, (model, options) in models.items():
        start = time.perf_counter()
        masks = otsu(image) if model is OTSU else predict(source, model, **options)
        seconds = time.perf_counter() - start
        if masks[0].shape != label.shape:
            masks = [cv2.resize(mask.astype(np.uint8), label.shape[::-1]) > 0 for mask in masks]
        row = {"set": name_of_set, "model": name, **score(label, masks[0], valid)}
        if via is not None and len(masks) > 1:
            row |= detection(via & valid, masks[1] & valid)
        row["s_per_Mpixel"] = seconds / (image.shape[0] * image.shape[1] / 1e6)
        rows.append(row)
        print(f"{name_of_set:14s} {name:10s} mIoU {100 * row['mIoU']:.1f}", flush=True)
        line += [
            cell(255 * masks[0].astype(np.uint8)),
            cell(pictures.error_map(label, masks[0], valid)),
        ]
    sheet.append(np.hstack(line))


def table(rows: list[dict]) -> str:
    """Return the figures as a Markdown table."""
    headings = [
        "set", "model", "mIoU", "Dice", "AJI", "opens", "shorts", "FP", "FN", "via P", "via R",
        "via F1", "s/Mpixel",
    ]  # fmt: skip
    percent = lambda row, key: f"{100 * row[key]:.1f}" if key in row else ""  # noqa: E731
    lines = [
        [
            row["set"], row["model"], *(percent(row, key) for key in ("mIoU", "Dice", "AJI")),
            f"{row['opens']:.1f}", f"{row['shorts']:.1f}", row["FP"], row["FN"],
            *(percent(row, f"via_{key}") for key in ("precision", "recall", "F1")),
            f"{row['s_per_Mpixel']:.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    return tabulate(lines, headings, "github")


def model_of(text: str):
    """Return a name, the model of --models, None for the packaged ones, and options."""
    plain, *endings = text.split("+")
    name, _, checkpoint = plain.partition("=")
    title, options = "+".join([name, *endings]), dict.fromkeys(endings, True)
    if name in ("otsu", "packaged"):
        return title, (OTSU if name == "otsu" else None, options)
    from eal_icnet_jax.models import checkpoints

    return title, (checkpoints.load_model(checkpoint or name), options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the sets")
    parser.add_argument("--models", default="otsu,packaged", help="separated by commas")
    parser.add_argument("--magnify", default="1", help="factors, separated by commas")
    parser.add_argument("--sets", default="", help="names of sets (all)")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="for table and sheet")
    arguments = parser.parse_args()
    models = dict(map(model_of, arguments.models.split(",")))
    rows, sheet = [], []
    factors = [float(factor) for factor in arguments.magnify.split(",")]
    for photograph in labelled_photographs(arguments.data, arguments.sets):
        for factor in factors:
            measure(magnified(photograph, factor), models, rows, sheet)
    arguments.output.mkdir(parents=True, exist_ok=True)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with (arguments.output / "real.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(rows)
    (arguments.output / "real.md").write_text(table(rows) + "\n")
    titles = ["photograph", "label"]
    for name in models:
        titles += [name, f"{name}: blue is missed, orange is wrong"]
    png.write(arguments.output / "real.png", np.vstack([heading(titles), *sheet]))
    print(table(rows))
    for name in models:
        scores = [row["mIoU"] for row in rows if row["model"] == name]
        print(f"{name}: mean mIoU {100 * np.mean(scores):.1f}")


if __name__ == "__main__":
    main()
