"""The list of places to review, found in a prediction: table, markers and pictures."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from eal_icnet_jax.evaluation.calibration import Calibration
from eal_icnet_jax.imaging import image_folders, mosaic_files, overlays, pixel_values, png
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.review.places import Square, find_places_in_blocks, worst_squares
from eal_icnet_jax.review.strokes import LARGEST_COORDINATE
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import (
    CROPS,
    MADE_BY,
    atomic_file,
    cannot_be_written,
    check_report_replaceable,
    emptied_crops,
    write_atomically,
)

FILES = ("places.json", "places.csv", "places.lyrdb")
"""Names of the files of a list. The first one says who wrote it."""

CROP_SIDE = 512
"""Smallest side of a picture in pixels; smaller squares are magnified by a whole number."""

MARKER = 6
"""Side of a marker in pixels of the image."""

MOST_BYTES = 2**26
"""Largest file of places that is read."""

COLUMNS = (
    "rank", "kind", "output", "x", "y", "probability", "chance", "uncertainty",
    "left", "top", "width", "height",
)  # fmt: skip
"""Columns of places.csv. Pixels count from 0 at the image's upper left; the last four are the
square of a rank, which may hold several places."""


class UnitMap:
    """A file of 16 bits as numbers from 0 to 1. Indexing it with slices reads that part."""

    def __init__(self, path: pathlib.Path):
        self._mosaic = mosaic_files.open_mosaic(path)
        if self._mosaic.dtype != np.uint16:
            raise UserError(f"{path} does not have 16 bits: remove it and run the command again")

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        return self._mosaic[index].astype(np.float32) / 65535


@dataclasses.dataclass(frozen=True)
class PredictedMaps:
    """The files of the prediction of one image, by the name of the output.

    Attributes:
      photograph: the image.
      masks: files of the masks.
      probabilities: files of the probabilities, 16 bits.
      uncertainties: files of the uncertainties, 16 bits.
    """

    photograph: Mosaic
    masks: dict[str, pathlib.Path]
    probabilities: dict[str, pathlib.Path]
    uncertainties: dict[str, pathlib.Path]

    @classmethod
    def of_files(
        cls, photograph: Mosaic, folder: pathlib.Path, suffixes: dict[str, str]
    ) -> "PredictedMaps":
        """Find the files that `predict` wrote.

        Args:
          photograph: the image.
          folder: of the results.
          suffixes: what is added to the name of the image for each output.
        """
        name = image_folders.stem_of(photograph.path)

        def paths(kind: str) -> dict[str, pathlib.Path]:
            found = {}
            for output, suffix in suffixes.items():
                stem = f"{name}{suffix}{kind}"
                endings = (".png", ".ome.tif", ".zarr")
                candidates = [folder / f"{stem}{ending}" for ending in endings]
                found[output] = next(path for path in candidates if path.exists())
            return found

        return cls(photograph, paths(""), paths("_probability"), paths("_uncertainty"))


def find_squares(
    maps: PredictedMaps,
    calibrations: dict[str, Calibration],
    threshold: float,
    side: int,
    count: int,
) -> list[Square]:
    """Return the squares of an image that a person should look at, the worst first.

    Args:
      maps: of its prediction.
      calibrations: of each output.
      threshold: of the masks.
      side: of a square in pixels.
      count: largest number of squares.
    """
    shape, places = maps.photograph.shape, []
    for output, path in maps.probabilities.items():
        unsure = UnitMap(maps.uncertainties[output])
        found = find_places_in_blocks(
            UnitMap(path), shape, output, calibrations[output], threshold, output == "via"
        )
        for place in found:
            pixel = unsure[place.y : place.y + 1, place.x : place.x + 1]
            places.append(dataclasses.replace(place, uncertainty=float(pixel[0, 0])))
    return worst_squares(places, shape, side, count)


def _rows(squares: list[Square]) -> Iterator[tuple]:
    for rank, square in enumerate(squares, 1):
        rows, columns = square.rows, square.columns
        size = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        for place in square.places:
            numbers = (round(n, 4) for n in (place.probability, place.chance, place.uncertainty))
            yield rank, place.kind, place.output, place.x, place.y, *numbers, *size


def _crop(maps: PredictedMaps, square: Square) -> np.ndarray:
    """Return the picture of a square: the photograph without and with outlines and places."""
    index = square.rows, square.columns
    image = pixel_values.to_unit_range(maps.photograph[index], 3)
    image = np.rint(255 * image).astype(np.uint8)
    factor = max(1, -(-CROP_SIDE // max(image.shape[:2])))
    masks = {
        output: np.kron(mosaic_files.open_mosaic(path)[index] > 0, np.ones((factor, factor), bool))
        for output, path in maps.masks.items()
    }
    size = image.shape[1] * factor, image.shape[0] * factor
    plain, marked = overlays.outlined(
        cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), masks
    )
    for place in square.places:
        centre = tuple(
            int((position - start + 0.5) * factor)
            for position, start in ((place.x, square.columns.start), (place.y, square.rows.start))
        )
        cv2.circle(marked, centre, 5 * max(1, factor), overlays.RED_PURPLE, 2, cv2.LINE_AA)
    return np.hstack([plain, marked])


def write_list(
    folder: pathlib.Path,
    maps: PredictedMaps,
    squares: list[Square],
    pixel_size: float,
    force: bool = False,
):
    """Write places.json, places.csv, a picture of each square, and markers if klayout is there.

    Pictures that an earlier list wrote are removed.

    Args:
      folder: is made if it does not exist.
      maps: of the prediction.
      squares: of `find_squares`.
      pixel_size: side of a pixel in micrometres, of the layout under the markers.
      force: whether files that another program wrote are replaced.

    Raises:
      UserError: a file cannot be written, or would replace one of another program.
    """
    check_report_replaceable(folder, FILES, force, CROPS)
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    rows = list(_rows(squares))
    writer.writerows(rows)
    report = {
        "software": MADE_BY.decode(),
        "image": maps.photograph.stamp(),
        "places": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
    }
    try:
        crops = emptied_crops(folder)
        for rank, square in enumerate(squares, 1):
            png.write(crops / f"{rank:04}.png", _crop(maps, square))
        write_atomically(folder / FILES[0], json.dumps(report, indent=1) + "\n")
        write_atomically(folder / FILES[1], table.getvalue())
        _write_markers(folder / FILES[2], squares, maps.photograph.shape[0], pixel_size)
    except OSError as error:
        raise cannot_be_written(folder, error) from error


def _write_markers(path: pathlib.Path, squares: list[Square], height: int, pixel_size: float):
    """Write KLayout's marker database, in the coordinates of the layout of the same masks."""
    try:
        import klayout.db as kdb
        import klayout.rdb as rdb
    except ImportError:
        return
    database = rdb.ReportDatabase("places to review")
    database.generator = MADE_BY.decode()
    cell = database.create_cell("TOP")
    categories = {}

    def box(left: float, top: float, right: float, bottom: float):
        x, y = (left, right), (height - bottom, height - top)
        return rdb.RdbItemValue(
            kdb.DBox(x[0] * pixel_size, y[0] * pixel_size, x[1] * pixel_size, y[1] * pixel_size)
        )

    def add(category: str, about: str, value, text: str):
        if category not in categories:
            categories[category] = database.create_category(category)
            categories[category].description = about
        item = database.create_item(cell.rdb_id(), categories[category].rdb_id())
        item.add_value(value)
        item.add_value(text)

    for rank, square in enumerate(squares, 1):
        rows, columns = square.rows, square.columns
        add(
            "squares",
            "squares to look at, the worst first",
            box(columns.start, rows.start, columns.stop, rows.stop),
            f"rank {rank}: {square.expected_errors:.2f} errors to expect",
        )
        for place in square.places:
            x, y, half = place.x + 0.5, place.y + 0.5, MARKER / 2
            add(
                f"{place.output} {place.kind}",
                place.about,
                box(x - half, y - half, x + half, y + half),
                f"rank {rank}: chance {100 * place.chance:.0f}%",
            )
    with atomic_file(path) as partial:
        database.save(str(partial))


class ListedSquare(NamedTuple):
    """A square to look at: its rank, upper-left corner, sides, and the places in it."""

    rank: int
    left: int
    top: int
    width: int
    height: int
    places: tuple[dict, ...]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def read_squares(path: pathlib.Path) -> list[ListedSquare]:
    """Read the places that `review-list` wrote, by their squares.

    Raises:
      UserError: the file cannot be read, or is not one of this program.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        by_rank: dict[int, list[dict]] = {}
        for place in json.loads(path.read_text())["places"]:
            by_rank.setdefault(_whole(place["rank"]), []).append(
                {
                    "kind": str(place["kind"])[:40],
                    "output": str(place["output"])[:40],
                    "x": _whole(place["x"]),
                    "y": _whole(place["y"]),
                    **{key: _whole(place[key]) for key in ("left", "top")},
                    **{key: _whole(place[key], 1) for key in ("width", "height")},
                }
            )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}): remove its folder, and run the same "
            "command again"
        ) from error
    sides = "left", "top", "width", "height"
    return [
        ListedSquare(rank, *(group[0][key] for key in sides), tuple(group))
        for rank, group in sorted(by_rank.items())
    ]


def _whole(number, least: int = 0) -> int:
    """Return a whole number of pixels from a file, within bounds."""
    if not isinstance(number, int) or not least <= number < LARGEST_COORDINATE:
        raise ValueError("it holds a number without sense")
    return number
