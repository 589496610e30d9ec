"""Decoding of image files and encoded bytes: the one way from a file to pixels."""

import dataclasses
import io
import pathlib
import struct

import cv2
import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile

from eal_icnet_jax.imaging import levels, masks, units
from eal_icnet_jax.imaging.mosaics import Mosaic, check_pixel_count, mosaic_from_array
from eal_icnet_jax.imaging.orientation import upright
from eal_icnet_jax.imaging.pixel_values import over_black
from eal_icnet_jax.imaging.tiff_mosaic import open_tiff
from eal_icnet_jax.imaging.units import PixelSize
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Endings of the image files that are read, in lower case."""

PNG_SIGNATURE, JPEG_SIGNATURE, BMP_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM"

TIFF_SIGNATURES = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
"""First bytes of TIFF and BigTIFF files."""


@dataclasses.dataclass
class Header:
    """What the header of a PNG, JPEG or BMP states.

    Attributes:
      height: in pixels, as stored.
      width: in pixels, as stored.
      orientation: of EXIF, from 1 to 8.
      pixel_size: from the resolution, as stored, or None.
    """

    height: int
    width: int
    orientation: int = 1
    pixel_size: PixelSize | None = None


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation that EXIF data state, or 1 if they do not or are damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for k in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * k)
            if (tag, kind) == (274, 3):
                return value
    except struct.error:
        pass
    return 1


def _png_header(data: bytes) -> Header:
    """Read the chunks of a PNG, which must all be complete.

    OpenCV allocates the length that a chunk claims, so no chunk may be longer than the file.
    """
    width, height = struct.unpack_from(">II", data, 16)
    header = Header(height, width)
    position, kind = len(PNG_SIGNATURE), None
    while position < len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + min(length, 2**16)]
        if kind == b"pHYs" and length == 9:
            across, down, unit = struct.unpack(">IIB", content)
            if unit == 1:
                header.pixel_size = units.from_resolution(down, across, 1e6, "PNG resolution")
        elif kind == b"eXIf":
            header.orientation = _exif_orientation(content)
        position += 12 + length  # with length, kind and checksum
    if position > len(data):
        raise ValueError("the PNG is cut off")
    return header


class _JpegHeader(JpegImageFile):
    """The header of a JPEG. Pillow's own reading of EXIF data prints warnings about them."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def _jpeg_header(data: bytes) -> Header:
    with _JpegHeader(io.BytesIO(data)) as image:
        header = Header(image.height, image.width, _exif_orientation(image.info.get("exif", b"")))
        unit = {1: 25400.0, 2: 10000.0}.get(image.info.get("jfif_unit", 0))
        if unit:
            across, down = image.info["jfif_density"]
            header.pixel_size = units.from_resolution(down, across, unit, "JPEG resolution")
    return header


def _bmp_header(data: bytes) -> Header:
    with BmpImageFile(io.BytesIO(data)) as image:
        header = Header(image.height, image.width)
        if "dpi" in image.info:
            across, down = image.info["dpi"]
            header.pixel_size = units.from_resolution(down, across, 25400.0, "BMP resolution")
    return header


def read_header(data: bytes) -> Header:
    """Read the header of a PNG, JPEG or BMP.

    Raises:
      ValueError: the bytes have no such header, or are a PNG that is cut off.
    """
    try:
        if data.startswith(PNG_SIGNATURE):
            return _png_header(data)
        # `Image.open` would refuse or warn of images larger than Pillow's own limit.
        return {JPEG_SIGNATURE: _jpeg_header, BMP_SIGNATURE: _bmp_header}[data[:2]](data)
    except Exception as error:  # parsers raise errors of any type for arbitrary bytes
        raise ValueError("the bytes have no header of a PNG, JPEG or BMP") from error


def may_have_16_bits(data: bytes) -> bool:
    """Return whether the content of a file may be an image of 16 bits: a TIFF, or such a PNG."""
    depth_of_png = data[len(PNG_SIGNATURE) + 16 : len(PNG_SIGNATURE) + 17]
    return data[:4] in TIFF_SIGNATURES or (
        data.startswith(PNG_SIGNATURE) and depth_of_png == b"\x10"
    )


def _is_complete_jpeg(data: bytes) -> bool:
    """Return whether a JPEG has its end marker after its last segment of settings.

    OpenCV before 5 fills missing rows with grey. Some cameras pad the file after the end, and the
    thumbnail in a file's settings has an end marker of its own.
    """
    position = 2
    while data[position : position + 1] == b"\xff":
        if data[position + 1 : position + 2] == b"\xda":  # start of the pixels
            return data.find(b"\xff\xd9", position) >= 0
        if data[position + 1 : position + 2] == b"\xff":  # padding between segments
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _decode_pixels(data: bytes) -> np.ndarray | None:
    """Return what OpenCV decodes, or None if it fails."""
    if data.startswith(JPEG_SIGNATURE) and not _is_complete_jpeg(data):
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _grey_or_rgb(pixels: np.ndarray, name: str) -> np.ndarray:
    """Return OpenCV's pixels, grey, BGR or BGRA, as grey or RGB over black."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{name} has {pixels.dtype} pixels: convert it to 8 or 16 bits per channel")
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[2]
    if channels == 1:
        return pixels[..., 0]
    if channels not in (3, 4):
        raise UserError(f"{name} has {channels} channels: convert it to grey or RGB")
    image = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGB)
    if channels == 3:
        return image
    if not pixels[..., 3].any():
        raise UserError(f"{name} is transparent everywhere: save it without its alpha channel")
    return over_black(image, pixels[..., 3], np.iinfo(pixels.dtype).max)


def open_encoded(data: bytes, name: str, page: int | None = None) -> Mosaic:
    """Open the content of a PNG, JPEG, TIFF or BMP, with what its metadata state.

    An image that is stored turned is turned upright. Where it is transparent it is black.

    Args:
      data: content of the file.
      name: of the image, for error messages.
      page: number of the image among those of a TIFF, from 1; None if it holds one.

    Raises:
      UserError: the bytes are no such image, or its pixels are of a kind that is not read, or it
        has more than `MAX_PIXELS` pixels.
    """
    path = pathlib.Path(name)
    if data[:4] in TIFF_SIGNATURES:
        return open_tiff(path, page, data)
    unreadable = UserError(f"{name} cannot be read as an image: replace or remove the file")
    if page not in (None, 1):
        raise UserError(f"{name} has 1 page, so there is no page {page}")
    try:
        header = read_header(data)
    except ValueError as error:
        raise unreadable from error
    check_pixel_count(name, (header.height, header.width))
    pixels = _decode_pixels(data)
    if pixels is None:
        raise unreadable
    stored = mosaic_from_array(path, _grey_or_rgb(pixels, name))
    size = header.pixel_size
    shape, read, sides = upright(
        stored.shape, stored.read, size and (size.height, size.width), header.orientation
    )
    return dataclasses.replace(
        stored,
        shape=shape,
        read=read,
        pixel_size=sides,
        pixel_size_source=size.source if size else "",
    )


def decode(
    data: bytes, name: str, white: int | None = None, unstated_white: int | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a PNG, JPEG, TIFF or BMP.

    Args:
      data: content of the file.
      name: of the image, for error messages.
      white: level of white; None for what the file states or, in 16 bits, its own levels show.
      unstated_white: level of white of an image of 16 bits whose file states none.

    Returns:
      `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16 with white at the type's largest value; and a
      sentence for each thing that a user should know.

    Raises:
      UserError: as `open_encoded`.
    """
    mosaic = levels.in_full_range(open_encoded(data, name), white, unstated_white)
    return np.ascontiguousarray(mosaic[slice(None), slice(None)]), mosaic.notes


def decode_mask(data: bytes, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a PNG, JPEG, TIFF or BMP of a mask, as `masks` decides what its levels mean.

    Args:
      data: content of the file.
      name: of the mask, for error messages.

    Returns:
      `[H, W]` bool, and a sentence for each thing that a user should know.

    Raises:
      UserError: as `open_encoded`, or what its levels mean cannot be known.
    """
    mask = masks.MosaicMask(open_encoded(data, name))
    return mask[slice(None), slice(None)], mask.notes


def decode_mask_but(
    data: bytes, name: str, ignore_value: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Decode a mask in which one level marks ignored pixels.

    What the other levels mean is decided as if there were no such pixels.

    Args:
      data: content of the file.
      name: of the mask, for error messages.
      ignore_value: the level, of grey pixels.

    Returns:
      The mask and where its level is that one, `[H, W]` bool, and a sentence for each thing that a
      user should know.

    Raises:
      UserError: as `decode_mask`, or the file has colours.
    """
    mosaic = open_encoded(data, name)
    levels = mosaic[slice(None), slice(None)]
    if levels.ndim == 3:
        if (levels != levels[..., :1]).any():
            raise UserError(
                f"{name} has colours, so that the level {ignore_value} means nothing: save it as "
                "grey"
            )
        levels = levels[..., 0]
    levels = levels.astype(np.uint8) if levels.dtype == bool else levels.copy()
    ignored = levels == ignore_value
    if ignored.all():
        return np.zeros(levels.shape, bool), ignored, mosaic.notes
    others = levels[~ignored]
    levels[ignored] = others.min()  # so that no level is left but those of the others
    mask = masks.MosaicMask(mosaic_from_array(mosaic.path, levels, notes=mosaic.notes))
    return mask[slice(None), slice(None)] & ~ignored, ignored, mask.notes


def read_bytes(path: pathlib.Path) -> bytes:
    """Return the content of a file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise cannot_be_read(path, error) from error
