"""PNG encoding."""

import pathlib
import struct
import zlib

import cv2
import numpy as np

from eal_icnet_jax.system.files import MADE_BY, write_atomically
from eal_icnet_jax.system.terminal import warn

HEADER_END = 8 + 12 + 13
"""Length in bytes of a PNG's signature and of its first chunk."""


def encode(image: np.ndarray) -> bytes:
    """Return `[H, W]`, `[H, W, 1]` or RGB `[H, W, 3]`, uint8 or uint16, as PNG."""
    if image.ndim == 3 and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()


def _chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def write(path: pathlib.Path, image: np.ndarray, pixel_size: tuple[float, float] | None = None):
    """Write an image that `encode` takes as a PNG file, completely or not at all.

    The file names this package as its maker, and holds the pixel size as pixels per metre. A size
    below 0.47 nanometres, which this cannot express, is left out with a warning.

    Args:
      path: of the file.
      image: as for `encode`.
      pixel_size: height and width of a pixel in micrometres, or None if unknown.

    Raises:
      UserError: the file cannot be written.
    """
    data = encode(image)
    chunks = _chunk(b"tEXt", b"Software\0" + MADE_BY)
    if pixel_size:
        down, across = (round(1e6 / size) for size in pixel_size)
        if min(down, across) > 0 and max(down, across) < 2**31:
            chunks += _chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
        else:
            warn(f"{path} cannot state pixels of {pixel_size[0]:g}x{pixel_size[1]:g} micrometres")
    write_atomically(path, data[:HEADER_END] + chunks + data[HEADER_END:])
