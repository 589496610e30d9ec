"""Squares of a photograph that are predicted before the rest of it, for a page that waits for them.

DIR/first/0_y00128_x01024.png   a mask of a square, by the number of the output and the corner
DIR/first/done                  all squares are there; with which network and settings
"""

import json
import pathlib
import re
import shutil
from typing import NamedTuple

import numpy as np

from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.inference.cleaning import Part, clean_inner_part, widened
from eal_icnet_jax.inference.image_prediction import ImagePrediction
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_written, write_atomically

FOLDER, DONE = "first", "done"
"""Names of the folder and of the file that says that it is complete."""

WORTH_IT = 4
"""How many times as many windows the photograph has as its squares, at least."""

LARGEST_SIDE = 4096
"""Largest side in pixels of a square that is read."""

_NAME = re.compile(r"(\d+)_y(\d{5,7})_x(\d{5,7})\.png")


class SquareMask(NamedTuple):
    """A mask of a square: the number of the output, the upper left pixel, and `[h, w]` bool."""

    output: int
    left: int
    top: int
    mask: np.ndarray

    def put_into(self, mask: np.ndarray, left: int, top: int, scale: float):
        """Put it into a mask `[h, w]` bool of a part of the image.

        Args:
          mask: is changed.
          left: column of the image at its left edge.
          top: row at its upper edge.
          scale: pixels of it in a pixel of the image, a power of two of 1 or less.
        """
        step = round(1 / scale)
        y, x = (np.arange(length) * step for length in mask.shape)
        height, width = self.mask.shape
        rows, columns = (
            np.flatnonzero((at >= first) & (at < first + length))
            for at, first, length in ((y + top, self.top, height), (x + left, self.left, width))
        )
        mask[np.ix_(rows, columns)] = self.mask[
            np.ix_(y[rows] + top - self.top, x[columns] + left - self.left)
        ]


def predict_squares(
    image: ImagePrediction,
    squares: list[Part],
    threshold: float,
    folder: pathlib.Path,
):
    """Write the masks of some squares, as they will be in the whole image.

    Nothing is done where the squares are there already, or hardly sooner there than the whole.

    Args:
      image: the photograph and its network.
      squares: rows and columns of each.
      threshold: of the masks.
      folder: of the prediction.

    Raises:
      UserError: they cannot be written.
    """
    folder = folder / FOLDER
    corners = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in squares]
    settings = json.dumps([image.model.weights_digest, image.scale.factor, threshold, corners])
    try:
        if not squares or (folder / DONE).read_text() == settings:
            return
    except (OSError, ValueError):  # other settings, or never done
        pass
    windows = image.windows()
    shape, speck_area = image.mosaic.shape, image.speck_area
    wide = [widened(square, shape, speck_area) for square in squares]
    needed = sum(windows.window_count(columns, [rows]) for rows, columns in wide)
    rows, columns = (slice(0, length) for length in shape)
    if windows.window_count(columns, [rows]) < WORTH_IT * needed:
        return
    outputs = len(image.model.spec.output_names)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for square, around in zip(squares, wide, strict=True):
            (probabilities,) = windows.strips(around[1], [around[0]])
            for k in range(outputs):
                mask = probabilities[..., k] >= threshold
                mask = clean_inner_part(mask, around, square, shape, speck_area, 0)
                name = f"{k}_y{square[0].start:05}_x{square[1].start:05}.png"
                png.write(folder / name, np.where(mask, 255, 0).astype(np.uint8))
        write_atomically(folder / DONE, settings)
    except OSError as error:
        raise cannot_be_written(folder, error) from error


def read_masks(folder: pathlib.Path) -> list[SquareMask]:
    """Return the masks that `predict_squares` wrote; none before all are there.

    Raises:
      UserError: a file is damaged.
    """
    folder = folder / FOLDER
    if not (folder / DONE).exists():
        return []
    found = []
    for path in sorted(folder.glob("*.png")):
        name, mosaic = _NAME.fullmatch(path.name), mosaic_files.open_mosaic(path)
        if name is None or max(mosaic.shape) > LARGEST_SIDE:
            raise UserError(f"{path} is no mask of a square: remove {folder}")
        pixels = mosaic[slice(None), slice(None)]
        mask = (pixels if pixels.ndim == 2 else pixels[..., 0]) > 127
        found.append(SquareMask(int(name[1]), int(name[3]), int(name[2]), mask))
    return found
