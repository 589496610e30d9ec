"""Masks that the tests of layouts draw, and layouts as KLayout reads them."""

import pathlib

import cv2
import numpy as np
from klayout import db


def blobs(seed: int, shape: tuple[int, int] = (90, 110)) -> np.ndarray:
    """Return a bool mask with holes, regions of one pixel, and regions that meet at a corner."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 1.5)
    return (smooth > 0.05) ^ (rng.random(shape) > 0.99)


def read_layer(path: pathlib.Path, layer: tuple[int, int] = (1, 0)) -> tuple[db.Region, float]:
    """Return the merged shapes of a layer, and the grid step in micrometres."""
    layout = db.Layout()
    layout.read(str(path))
    region = db.Region(layout.top_cell().begin_shapes_rec(layout.layer(*layer)))
    # A copy, because the shapes go with their layout.
    return db.Region([*region.each_merged()]), layout.dbu
