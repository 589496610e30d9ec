"""A project: a photograph, and a prediction of which every wrong place is known."""

import pathlib

import cv2
import numpy as np

from eal_icnet_jax.evaluation.calibration import Calibration
from eal_icnet_jax.imaging import mosaic_files, png, pyramid
from eal_icnet_jax.inference.views import uncertainty
from eal_icnet_jax.review import review_list

SHAPE = 300, 420
SHORT = 210, 125
"""Column and row of the middle of the metal that joins two wires by mistake, the third place."""


def label() -> np.ndarray:
    """Three wires of 20 pixels."""
    metal = np.zeros(SHAPE, bool)
    for top in (60, 140, 220):
        metal[top : top + 20, 10:410] = True
    return metal


def probabilities() -> np.ndarray:
    """The wires, an open at x 100, a wire that does not exist, and a short between two wires."""
    p = np.where(label(), 0.97, 0.02).astype(np.float32)
    p[60:80, 96:104] = 0.45
    p[260:270, 20:120] = 0.58
    p[80:140, 200:220] = 0.6
    return p


def write(folder: pathlib.Path) -> pathlib.Path:
    """Write the photograph and the prediction of a project, and return the photograph's path."""
    path = folder.parent / "photo.png"
    grey = np.where(label(), 200, 90).astype(np.float32)
    grey += np.random.default_rng(0).normal(0, 8, SHAPE)
    photograph = np.clip(np.repeat(grey[..., None], 3, -1), 0, 255).astype(np.uint8)
    png.write(path, photograph)
    prediction = folder / "predictions" / "000"
    prediction.mkdir(parents=True)
    via = np.full(SHAPE, 0.01, np.float32)
    cv2.circle(via, (300, 70), 6, 0.98, -1)
    for output, p in (("metal", probabilities()), ("via", via)):
        maps = {
            "": np.where(p >= 0.5, 255, 0).astype(np.uint8),
            "_probability": np.rint(65535 * p).astype(np.uint16),
            "_uncertainty": np.rint(65535 * uncertainty(p, None)).astype(np.uint16),
        }
        for kind, values in maps.items():
            name = f"photo_{output}{kind}"
            group = pyramid.create_pyramid(
                prediction / f"{name}.zarr", name, SHAPE, values.dtype, None
            )
            group["0"][:] = values
            pyramid.fill_levels(group)
    suffixes = {"metal": "_metal", "via": "_via"}
    maps = review_list.PredictedMaps.of_files(mosaic_files.open_mosaic(path), prediction, suffixes)
    known = dict.fromkeys(suffixes, Calibration.nothing())
    squares = review_list.find_squares(maps, known, 0.5, 48, 10)
    review_list.write_list(prediction, maps, squares, 1.0)
    return path
