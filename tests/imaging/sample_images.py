"""Images that the tests of mosaics write and read."""

import pathlib

import numpy as np

from eal_icnet_jax.imaging import decoding, mosaic_files

PARTS = (slice(0, 300), slice(0, 420)), (slice(61, 203), slice(100, 419))
"""All and a part of `gradient()`."""


def gradient(height: int = 300, width: int = 420, channels: tuple[int, ...] = ()) -> np.ndarray:
    """Return a grey `[H, W]` or RGB `[H, W, 3]` image, uint8."""
    y, x = np.mgrid[:height, :width]
    grey = ((x * 7 + y * 3) % 256).astype(np.uint8)
    return np.stack([grey, grey[::-1], 255 - grey], -1) if channels else grey


def check_parts(mosaic, expected: np.ndarray):
    """Assert that a mosaic has the pixels and type of an image of the size of `gradient()`."""
    assert mosaic.shape == (300, 420) and mosaic.dtype == expected.dtype
    for index in PARTS:
        part = mosaic[index]
        assert part.dtype == expected.dtype
        np.testing.assert_array_equal(part, expected[index])


def pixels(source: pathlib.Path | bytes) -> np.ndarray:
    """Return the pixels of an image file, or of its content, as they are stored."""
    if isinstance(source, bytes):
        mosaic = decoding.open_encoded(source, "image")
    else:
        mosaic = mosaic_files.open_mosaic(source)
    return mosaic[slice(None), slice(None)]
