"""What `eal-icnet align` writes beside the moved image: the map, places and a picture of them."""

import csv
import io
import pathlib

import cv2
import numpy as np

from eal_icnet_jax.imaging import ome_names, png
from eal_icnet_jax.imaging.image_pairs import grey_level
from eal_icnet_jax.imaging.joint_fit import Alignment
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.moved_mosaic import map_as_json
from eal_icnet_jax.system.files import write_atomically
from eal_icnet_jax.system.tables import read_table

POINT_COLUMNS = ("reference_x", "reference_y", "x", "y")
"""Columns of a table of points: a place in the reference and the same one in the other image."""

PLACE_COLUMNS = ("x", "y", "deviation", "unseen")

SIDE = 1024
"""Longest side of the picture in pixels."""

COLOURS = (
    (0.5, (0, 158, 115)),
    (1.0, (86, 180, 233)),
    (2.0, (230, 159, 0)),
    (np.inf, (213, 94, 0)),
)
"""RGB of a place by its deviation in pixels, for colour-blind people too (Okabe and Ito)."""

UNKNOWN = (128, 128, 128)
"""RGB of a place whose deviation from the others is unknown."""

STRIP = 64
"""Rows of the picture that are read at once."""


def paths_beside(output: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the files beside a moved image: map, table and picture."""
    stem = ome_names.stem_of(output)
    names = {"map": f"{stem}.json", "table": f"{stem}_places.csv", "picture": f"{stem}_places.png"}
    return {kind: output.with_name(name) for kind, name in names.items()}


def read_points(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (x, y) of a table in the reference and in the other image, `[N, 2]` each.

    Raises:
      UserError: it cannot be read.
    """
    rows = [
        [row.number(column, "pixels", 1e8) for column in POINT_COLUMNS]
        for row in read_table(path, POINT_COLUMNS)
    ]
    values = np.array(rows, float).reshape(-1, 4)
    return values[:, :2], values[:, 2:]


def write_report(output: pathlib.Path, found: Alignment, reference: Mosaic, moving: Mosaic):
    """Write the map, the places by which it is judged, and a picture of them."""
    paths = paths_beside(output)
    report = {
        "reference_file": reference.path.name,
        "moving_file": moving.path.name,
    }
    if not np.isnan(found.doubt):
        report |= {
            "unseen_median": round(found.doubt, 3),
            "unseen_95": round(float(np.percentile(found.unseen, 95)), 3),
        }
    write_atomically(paths["map"], map_as_json(found.map, moving, **report))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PLACE_COLUMNS)
    for point, *values in zip(found.points, found.deviations, found.unseen, strict=True):
        writer.writerow(f"{value:.2f}" for value in (*point, *values))
    write_atomically(paths["table"], text.getvalue())
    png.write(paths["picture"], _picture(found, reference))


def _picture(found: Alignment, reference: Mosaic) -> np.ndarray:
    """Return the reference with a disc at each place, coloured by `Alignment.unseen`, RGB."""
    level = max(1, -(-max(reference.shape) // SIDE))
    height, width = (max(1, length // level) for length in reference.shape)
    grey = np.zeros((height, width), np.uint8)
    for top in range(0, height, STRIP):
        rows = slice(top * level, min(top + STRIP, height) * level)
        part = reference[rows, 0 : width * level]
        if part.ndim == 3:
            part = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
        size = width, min(STRIP, height - top)
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        grey[top : top + STRIP] = np.rint(grey_level(1, part.dtype) * small.astype(float))
    image = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    radius = max(4, max(image.shape) // 80)
    for point, unseen in zip(found.points, found.unseen, strict=True):
        colour = next((colour for limit, colour in COLOURS if unseen <= limit), UNKNOWN)
        centre = [int(value) for value in np.rint(point / level)]
        cv2.circle(image, centre, radius + 1, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(image, centre, radius, colour, -1, cv2.LINE_AA)
    return image
