"""The files of a comparison: Markdown, CSV, LaTeX, a plot and an HTML page."""

import base64
import pathlib

import cv2
import jinja2
import numpy as np

from eal_icnet_jax.comparison.plots import cost_plot, training_plot
from eal_icnet_jax.comparison.table import COSTS, HEADINGS, Comparison, csv_text
from eal_icnet_jax.evaluation import pictures
from eal_icnet_jax.imaging import decoding, png
from eal_icnet_jax.system.files import write_atomically

_LATEX = str.maketrans({"\\": " ", **{character: f"\\{character}" for character in "&%$#_{}"}})

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("eal_icnet_jax.comparison"),
    autoescape=jinja2.select_autoescape(("html.jinja",)),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["latex"] = lambda text: text.translate(_LATEX)


FILES = tuple(f"comparison.{ending}" for ending in ("csv", "md", "tex", "png", "html"))
"""Names of the files of a comparison."""


def write_comparison(folder: pathlib.Path, comparison: Comparison):
    """Write comparison.md, .csv, .tex, .png and .html into a folder.

    Raises:
      UserError: they cannot be written.
    """
    common = {
        "table": comparison.formatted_rows(),
        "labels": comparison.labels,
        "notes": comparison.notes,
        "headings": HEADINGS,
        "costs": COSTS,
    }
    plots = {"cost": cost_plot(comparison), "curves": training_plot(comparison)}
    write_atomically(folder / "comparison.csv", csv_text(comparison.rows))
    for ending in ("md", "tex"):
        text = _TEMPLATES.get_template(f"comparison.{ending}.jinja").render(**common)
        write_atomically(folder / f"comparison.{ending}", text)
    write_atomically(folder / "comparison.png", plots["cost"])
    html = _TEMPLATES.get_template("comparison.html.jinja").render(
        **common,
        plots={name: _data_uri(plot, "png") for name, plot in plots.items()},
        predictions=_predictions(comparison),
        legend=[(name, f"rgb{colour}") for name, colour in pictures.LEGEND],
    )
    write_atomically(folder / "comparison.html", html)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _photograph(image: np.ndarray) -> str:
    """Return an image `[H, W, C]` in [0, 1] as a JPEG data URI."""
    pixels = np.rint(255 * image).astype(np.uint8)
    pixels = pixels[..., ::-1] if pixels.shape[-1] == 3 else pixels
    jpeg = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
    return _data_uri(jpeg.tobytes(), "jpeg")


def _predictions(comparison: Comparison) -> dict:
    """Return what the page shows: images, labels and each network's errors as data URIs."""
    titles = {row.model: row.title for row in comparison.rows if row.model in comparison.masks}
    examples = []
    for number, example in enumerate(comparison.shown):
        photograph = _photograph(example["image"])
        for k, label in enumerate(comparison.labels):
            truth = example["label"][..., k]
            errors = []
            for name in titles:
                path = comparison.masks[name] / f"{number}_{k}.png"
                mask, _ = decoding.decode_mask(path.read_bytes(), str(path))
                errors_of = pictures.error_map(truth, mask, example["valid"][..., 0])
                errors.append(_data_uri(png.encode(errors_of), "png"))
            examples.append(
                {
                    "name": example["name"] + (f", {label}" if len(comparison.labels) > 1 else ""),
                    "image": photograph,
                    "label": _data_uri(png.encode(255 * truth.astype(np.uint8)), "png"),
                    "errors": errors,
                }
            )
    return {"models": list(titles.values()), "examples": examples}
