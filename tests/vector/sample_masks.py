"""Masks that the tests of layouts draw, and layouts as KLayout reads them."""

import pathlib

import cv2
import hypothesis
import numpy as np
from hypothesis import strategies
from klayout import db

from eal_icnet_jax.imaging.regions import connected_regions

QUICK = hypothesis.settings(max_examples=100, deadline=None, derandomize=True, database=None)
"""Settings of property tests: equal examples in every run, in seconds."""


def blobs(seed: int, shape: tuple[int, int] = (90, 110)) -> np.ndarray:
    """Return a bool mask with holes, regions of one pixel, and regions that meet at a corner."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 1.5)
    return (smooth > 0.05) ^ (rng.random(shape) > 0.99)


@strategies.composite
def masks(draw) -> np.ndarray:
    """Draw a bool mask `[H, W]` of up to 24x24: noise, smooth shapes, or rows of rectangles."""
    sides = strategies.integers(1, 24)
    shape = draw(sides), draw(sides)
    rng = np.random.default_rng(draw(strategies.integers(0, 2**32 - 1)))
    blur = draw(strategies.sampled_from([0, 0.6, 1, 2, None]))
    if blur is None:
        mask = np.zeros(shape, bool)
        for top, left, height, width in rng.integers(0, 12, (rng.integers(1, 9), 4)):
            mask[2 * top : 2 * top + height, 2 * left : 2 * left + width] ^= True
        return mask
    values = rng.standard_normal(shape).astype(np.float32)
    values = cv2.GaussianBlur(values, (0, 0), blur) if blur else values
    return values > np.quantile(values, draw(strategies.floats(0.1, 0.9)))


def count_regions_and_holes(mask: np.ndarray) -> tuple[int, int]:
    """Return the numbers of 8-connected regions, and of 4-connected enclosed holes."""
    background = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    holes = cv2.connectedComponents(background, connectivity=4)[0] - 2
    return len(connected_regions(mask)[1]) - 1, holes


def read_layer(path: pathlib.Path, layer: tuple[int, int] = (1, 0)) -> tuple[db.Region, float]:
    """Return the merged shapes of a layer, and the grid step in micrometres."""
    layout = db.Layout()
    layout.read(str(path))
    region = db.Region(layout.top_cell().begin_shapes_rec(layout.layer(*layer)))
    # A copy, because the shapes go with their layout.
    return db.Region([*region.each_merged()]), layout.dbu
