"""An image moved over another one by a smooth map, part by part, and files of such maps."""

import dataclasses
import json
import pathlib
from typing import Any

import cv2
import numpy as np

from eal_icnet_jax.imaging.image_pairs import between_nodes
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.smooth_maps import DEGREE, MAX_NODES, SmoothMap
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import MADE_BY
from eal_icnet_jax.system.tables import read_text

STEP = 16
"""Distance in pixels of the points at which the map is computed; between them it is straight."""

LARGEST_PART = 4
"""Largest area of an image that is read for a part, relative to it."""


def moved(image: Mosaic, mapped: SmoothMap, is_drawn: bool, reference: Mosaic) -> Mosaic:
    """Return an image as it lies over a reference. It is 0 beyond its border.

    Args:
      image: of 1, 8 or 16 bits; one bit becomes 0 and 255.
      mapped: from the reference's pixels to those of the image.
      is_drawn: take the nearest pixel, so that no value arises that was not there.
      reference: whose pixel size the result has.
    """
    method = cv2.INTER_NEAREST if is_drawn else cv2.INTER_CUBIC
    channels = image[0:1, 0:1].shape[2:]
    dtype = np.dtype(np.uint8) if image.dtype == bool else image.dtype  # as it is read

    def read(rows: slice, columns: slice) -> np.ndarray:
        top, bottom, _ = rows.indices(mapped.shape[0])
        left, right, _ = columns.indices(mapped.shape[1])
        shape = max(0, bottom - top), max(0, right - left)
        out = np.zeros((*shape, *channels), dtype)
        if not out.size:
            return out
        # The nodes are the same for every part, and so are the pixels where parts overlap.
        first = [start - start % STEP for start in (top, left)]
        nodes = [np.arange(start - STEP, end + 2 * STEP, STEP, float)
                 for start, end in zip(first, (bottom, right), strict=True)]  # fmt: skip
        target = mapped.on_grid(*nodes)
        low = np.floor(target.min((0, 1))).astype(int) - 3
        high = np.ceil(target.max((0, 1))).astype(int) + 4
        x, y = (
            slice(*np.clip((first, last), 0, length))
            for first, last, length in zip(low, high, image.shape[::-1], strict=True)
        )
        if x.start == x.stop or y.start == y.stop:
            return out
        around = (LARGEST_PART * max(shape) + 8 * STEP) ** 2
        if (x.stop - x.start) * (y.stop - y.start) > around:
            raise UserError(
                f"the map of {image.path} magnifies by over {LARGEST_PART}: name points"
            )
        pixels = image[y, x]
        places = (target - (x.start, y.start)).astype(np.float32)
        before = top - first[0], left - first[1]
        whole = between_nodes(places, STEP, (shape[0] + before[0], shape[1] + before[1]))
        dense = np.ascontiguousarray(whole[before[0] :, before[1] :])
        return cv2.remap(pixels, dense, None, method, borderMode=cv2.BORDER_CONSTANT)

    return dataclasses.replace(
        image,
        shape=mapped.shape,
        dtype=dtype,
        read=read,
        notes=(),
        pixel_size=reference.pixel_size,
        pixel_size_source=reference.pixel_size_source,
    )


def map_as_json(mapped: SmoothMap, moving: Mosaic, **report: Any) -> str:
    """Return a map as the text of a file.

    Args:
      mapped: that is written.
      moving: the image whose pixels it leads to.
      **report: what else the file says.
    """
    content = {
        "software": MADE_BY.decode(),
        **report,
        "reference_shape": [*mapped.shape],
        "moving_shape": [*moving.shape],
        "offsets": mapped.offsets.round(4).tolist(),
    }
    return json.dumps(content, indent=1) + "\n"


def read_map(path: pathlib.Path) -> tuple[SmoothMap, tuple[int, int]]:
    """Read a map, and the shape of the images that it moves.

    Raises:
      UserError: the file cannot be read or holds no map.
    """
    wrong = UserError(f"{path} is no map of `eal-icnet align`: name the .json that it wrote")
    try:
        content = json.loads(read_text(path))
        shapes = [tuple(map(int, content[key])) for key in ("reference_shape", "moving_shape")]
        offsets = np.array(content["offsets"], float)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise wrong from error
    largest = MAX_NODES + DEGREE + 1
    if (
        any(len(shape) != 2 or not 0 < min(shape) <= max(shape) < 2**31 for shape in shapes)
        or offsets.ndim != 3
        or offsets.shape[2] != 2
        or not DEGREE < min(offsets.shape[:2]) <= max(offsets.shape[:2]) <= largest
        or not np.all(np.abs(offsets) < 1e8)
    ):
        raise wrong
    return SmoothMap(shapes[0], offsets), shapes[1]
