"""Decoding of image files and encoded bytes to arrays."""

import io
import pathlib
import struct

import cv2
import numpy as np
import tifffile
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile

from eal_icnet_jax.system.errors import UserError, os_error_cause

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Endings of the image files that are read, in lower case."""

MAX_PIXELS = 2**28
"""Maximum pixel count of an image that is decoded at once, 16384x16384."""

PNG_SIGNATURE, JPEG_SIGNATURE, BMP_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM"

TIFF_SIGNATURES = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
"""First bytes of TIFF and BigTIFF files."""


def _png_size(data: bytes) -> tuple[int, int]:
    """Return height and width from the header of a PNG whose chunks are all complete.

    OpenCV allocates the length that a chunk claims, so no chunk may be longer than the file.
    """
    position, kind = len(PNG_SIGNATURE), None
    while position < len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length  # with length, kind and checksum
    if position > len(data):
        raise ValueError("the PNG is cut off")
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


class _JpegHeader(JpegImageFile):
    """The header of a JPEG. Its EXIF data are not parsed, as Pillow prints warnings about them."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def image_size(data: bytes) -> tuple[int, int]:
    """Return height and width from the header of a PNG, JPEG, TIFF or BMP.

    Raises:
      ValueError: the bytes have no such header, or are a PNG that is cut off.
    """
    try:
        if data[:4] in TIFF_SIGNATURES:
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                page = file.pages.first
                return int(page.imagelength), int(page.imagewidth)
        if data.startswith(PNG_SIGNATURE):
            return _png_size(data)
        # `Image.open` would refuse or warn of images larger than Pillow's own limit.
        readers = {JPEG_SIGNATURE: _JpegHeader, BMP_SIGNATURE: BmpImageFile}
        with readers[data[:2]](io.BytesIO(data)) as header:
            return header.height, header.width
    except Exception as error:  # parsers raise errors of any type for arbitrary bytes
        raise ValueError("the bytes have no header of a PNG, JPEG, TIFF or BMP") from error


def _decode_pixels(data: bytes) -> np.ndarray | None:
    """Return what OpenCV decodes, or None if it fails."""
    if data.startswith(JPEG_SIGNATURE) and b"\xff\xd9" not in data[-4096:]:
        return None  # cut off: OpenCV before 5 fills the missing rows with grey
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode a PNG, JPEG, TIFF or BMP.

    Args:
      data: content of the file.
      name: of the image, for the error message.

    Returns:
      `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16. An alpha channel is dropped.

    Raises:
      UserError: the bytes are no such image, or its depth or number of channels is not supported,
        or it has more than `MAX_PIXELS` pixels.
    """
    unreadable = UserError(f"{name} cannot be read as an image: replace or remove the file")
    try:
        height, width = image_size(data)
    except ValueError as error:
        raise unreadable from error
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{name} has {height}x{width} pixels (height x width) according to its header, too "
            "many to decode at once: write it as tiled TIFF or Zarr, which `eal-icnet predict` "
            "reads in parts"
        )
    image = _decode_pixels(data)
    if image is None:
        raise unreadable
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{name} has {image.dtype} pixels: convert it to 8 or 16 bits per channel")
    if image.ndim == 2:
        return image
    channels = image.shape[2]
    if channels == 1:
        return image[..., 0]
    if channels not in (3, 4):
        raise UserError(f"{name} has {channels} channels: convert it to grey or RGB")
    return np.ascontiguousarray(image[..., 2::-1])  # from OpenCV's BGR or BGRA


def cannot_be_read(path: pathlib.Path, error: OSError) -> UserError:
    """Return the `UserError` for a path that cannot be read."""
    return UserError(f"{path} cannot be read: {os_error_cause(error)}")


def read_bytes(path: pathlib.Path) -> bytes:
    """Return the content of a file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise cannot_be_read(path, error) from error


def read(path: pathlib.Path) -> np.ndarray:
    """Read an image file as `decode` does."""
    return decode(read_bytes(path), str(path))
