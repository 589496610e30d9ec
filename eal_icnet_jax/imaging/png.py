"""PNG encoding."""

import pathlib

import cv2
import numpy as np

from eal_icnet_jax.system.files import write_atomically


def encode(image: np.ndarray) -> bytes:
    """Return `[H, W]`, `[H, W, 1]` or RGB `[H, W, 3]`, uint8 or uint16, as PNG."""
    if image.ndim == 3 and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()


def write(path: pathlib.Path, image: np.ndarray):
    """Write an image that `encode` takes as a PNG file, completely or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    write_atomically(path, encode(image))
