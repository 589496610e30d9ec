"""Files of the differences from a golden layout: a table, KLayout markers and pictures."""

import csv
import io
import pathlib

import cv2
import numpy as np

from eal_icnet_jax.evaluation import pictures
from eal_icnet_jax.imaging import png
from eal_icnet_jax.netlist.golden import Difference, Overlay, Side
from eal_icnet_jax.system.files import (
    CROPS,
    MADE_BY,
    atomic_file,
    cannot_be_written,
    check_report_replaceable,
    emptied_crops,
    write_atomically,
)
from eal_icnet_jax.vector.layout_reader import kdb

FILES = ("differences.lyrdb", "differences.csv", "overview.png")

COLUMNS = ("number", "kind", "effects", "x", "y", "left", "top", "right", "bottom", "missing",
           "added")  # fmt: skip
"""Columns of the table. x and y are micrometres of the golden layout, y upwards. Boxes are pixels
of the golden mask from the upper left, with the last one; missing and added count pixels."""

CROP = 96
"""Smallest side in pixels of what a picture shows."""

MOST_RINGS = 20
"""Number of differences with a ring where none changes nets."""

MOST_PICTURES = 100
"""Number of differences that get a picture."""


def check_folder(folder: pathlib.Path, force: bool = False):
    """Raise a `UserError` if a report would replace files of another program."""
    check_report_replaceable(folder, FILES, force, CROPS)


def write_report(
    folder: pathlib.Path,
    golden: Side,
    overlay: Overlay,
    differences: list[Difference],
):
    """Write differences.csv, differences.lyrdb, overview.png and a picture of each in crops/.

    Pictures show the golden metal that was found in grey, missing metal in blue and added metal in
    orange, as the error maps of `evaluate` do.

    Raises:
      UserError: a file cannot be written.
    """
    metal = golden.masks["metal"]
    over, inside = overlay.masks["metal"], overlay.inside
    try:
        crops = emptied_crops(folder)
        for number, difference in enumerate(differences[:MOST_PICTURES], 1):
            part = _around(difference.box, golden.shape)
            image = pictures.error_map(metal[part], over[part], inside[part])
            size = 4 * image.shape[1], 4 * image.shape[0]
            enlarged = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
            png.write(crops / f"{number:04}.png", enlarged)
        _write_markers(folder / FILES[0], golden, differences)
        write_atomically(folder / FILES[1], _table(golden, differences))
        png.write(folder / FILES[2], _overview(metal, over, inside, differences))
    except OSError as error:
        raise cannot_be_written(folder, error) from error


def _around(box: tuple[int, int, int, int], shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns of a box with what is near it."""
    left, top, right, bottom = box
    out = []
    for low, high, length in ((top, bottom, shape[0]), (left, right, shape[1])):
        margin = max(16, (CROP - (high - low)) // 2)
        out.append(slice(max(0, low - margin), min(length, high + 1 + margin)))
    return out[0], out[1]


def _place(golden: Side, difference: Difference) -> tuple[float, float]:
    """Return the middle of a difference in micrometres, y upwards."""
    left, top, right, bottom = difference.box
    x, y = (left + right + 1) / 2, golden.shape[0] - (top + bottom + 1) / 2
    return golden.origin[0] + x * golden.pixel_size, golden.origin[1] + y * golden.pixel_size


def _table(golden: Side, differences: list[Difference]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, difference in enumerate(differences, 1):
        x, y = _place(golden, difference)
        writer.writerow((
            number, difference.kind, " ".join(difference.effects), f"{x:.6g}", f"{y:.6g}",
            *difference.box, difference.missing, difference.added,
        ))  # fmt: skip
    return text.getvalue()


def _write_markers(path: pathlib.Path, golden: Side, differences: list[Difference]):
    """Write KLayout's marker database, in the coordinates of the golden layout."""
    import klayout.rdb as rdb

    database = rdb.ReportDatabase("differences")
    database.generator = MADE_BY.decode()
    cell = database.create_cell("TOP")
    categories: dict = {}
    for number, difference in enumerate(differences, 1):
        name = ", ".join(difference.effects) or difference.kind
        if name not in categories:
            categories[name] = database.create_category(name)
        left, top, right, bottom = difference.box
        size, (x0, y0) = golden.pixel_size, golden.origin
        height = golden.shape[0]
        box = kdb.DBox(
            x0 + left * size, y0 + (height - 1 - bottom) * size,
            x0 + (right + 1) * size, y0 + (height - top) * size,
        )  # fmt: skip
        item = database.create_item(cell.rdb_id(), categories[name].rdb_id())
        item.add_value(rdb.RdbItemValue(box))
        item.add_value(f"{number}: {difference.kind}")
    with atomic_file(path) as partial:
        database.save(str(partial))


def _overview(
    metal: np.ndarray, over: np.ndarray, inside: np.ndarray, differences: list[Difference]
) -> np.ndarray:
    """Return both masks with numbered rings, RGB.

    They are around what changes nets and around vias, or else around the first differences.
    """
    image = pictures.error_map(metal, over, inside)
    factor = min(1.0, 1600 / max(image.shape[:2]))
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    image = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    count = sum(difference.matters for difference in differences) or MOST_RINGS
    for number, difference in enumerate(differences[:count], 1):
        left, top, right, bottom = difference.box
        middle = round(factor * (left + right) / 2), round(factor * (top + bottom) / 2)
        radius = max(9, round(0.7 * factor * max(right - left, bottom - top)))
        cv2.circle(image, middle, radius, (230, 30, 90), 2, cv2.LINE_AA)
        corner = min(middle[0] + radius, size[0] - 30), max(middle[1] - radius // 2, 14)
        cv2.putText(image, str(number), corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (230, 30, 90), 2,
                    cv2.LINE_AA)  # fmt: skip
    return image
