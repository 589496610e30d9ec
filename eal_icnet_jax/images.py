"""Image files and encoded bytes in, arrays out; masks out to PNG."""

import io
import pathlib
import struct
import unicodedata

import cv2
import numpy as np
import tifffile

from eal_icnet_jax.errors import UserError
from eal_icnet_jax.files import write_whole

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

LARGEST = 2**28
"""Pixels of the largest image that is decoded at once; 16384x16384."""

TIFF = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
"""How TIFF and BigTIFF begin."""

JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that say how large a JPEG is."""
JPEG_ALONE = {0x01, 0xFF, *range(0xD0, 0xDA)}
"""Markers that begin no segment, and what fills up between them."""

ANY_SIZE = "write a larger image as tiled TIFF or Zarr, which `predict` reads in parts"


def _check_chunks(data: bytes):
    """Raises a `ValueError` where a chunk of a PNG is longer than the file: room would be made."""
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length  # and the checksum
        if at > len(data):
            raise ValueError("it is cut off")
        if kind == b"IEND":
            return


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width of PNG, JPEG, TIFF or BMP, as its header says.

    Raises:
      ValueError, struct.error: it has none of these headers, or is a PNG that is cut off.
    """
    if data[:4] in TIFF:
        try:
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                return int(file.pages[0].imagelength), int(file.pages[0].imagewidth)
        except Exception as error:  # of whatever the bytes happen to mean
            raise ValueError("no page") from error
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_chunks(data)
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith(b"BM"):
        small = struct.unpack_from("<I", data, 14)[0] == 12
        width, height = struct.unpack_from("<HH" if small else "<ii", data, 18)
    elif data.startswith(b"\xff\xd8"):
        at = 2
        while data[at + 1] not in JPEG_SIZES:
            alone = data[at] != 0xFF or data[at + 1] in JPEG_ALONE
            at += 1 if alone else 2 + struct.unpack_from(">H", data, at + 2)[0]
            if at + 9 > len(data):
                raise ValueError("no frame")
        height, width = struct.unpack_from(">HH", data, at + 5)
    else:
        raise ValueError("no known beginning")
    return abs(height), width


def decode(data: bytes, name: str) -> np.ndarray:
    """Decodes PNG, JPEG, TIFF or BMP.

    Args:
      data: the file's bytes.
      name: of the image, for the error.

    Returns:
      `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16. Transparency is dropped.

    Raises:
      UserError: the bytes are no such image, or one of another depth or more than `LARGEST` pixels.
    """
    try:
        height, width = size_of(data)
    except (ValueError, struct.error, IndexError) as error:
        raise UserError(f"{name} cannot be read as an image: replace or remove the file") from error
    if height * width > LARGEST:
        raise UserError(f"{name} says that it is {height}x{width} (height x width): {ANY_SIZE}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        image = None  # a JPEG that breaks off, which older OpenCV fills up with grey
    if image is None:
        raise UserError(f"{name} cannot be read as an image: replace or remove the file")
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{name} has {image.dtype} pixels: convert it to 8 or 16 bits per channel")
    if image.ndim == 3:
        if image.shape[2] == 1:
            image = image[..., 0]
        elif image.shape[2] in (3, 4):
            image = np.ascontiguousarray(image[..., 2::-1])
        else:
            raise UserError(f"{name} has {image.shape[2]} channels: convert it to grey or RGB")
    return image


def read_bytes(path: pathlib.Path) -> bytes:
    """A file's content; a `UserError` where it cannot be had."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def read(path: pathlib.Path) -> np.ndarray:
    """`decode` of a file."""
    return decode(read_bytes(path), str(path))


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """`[H, W]` or RGB `[H, W, 3]` as `[H, W, channels]`: grey for 1, grey repeated for 3."""
    if image.ndim == 3 and channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return image if image.ndim == 3 else np.repeat(image[..., None], channels, -1)


def to_unit_range(image: np.ndarray, channels: int) -> np.ndarray:
    """An image as a network takes it.

    Args:
      image: `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16.
      channels: 1 turns colour to grey (ITU-R 601 luma), 3 repeats grey.

    Returns:
      `[H, W, channels]` float32 in [0, 1].

    Raises:
      UserError: `channels` is neither.
    """
    if channels not in (1, 3):
        raise UserError(f"images have 1 or 3 channels, but the model takes {channels}")
    top = np.float32(np.iinfo(image.dtype).max)
    return _with_channels(image, channels).astype(np.float32) / top


def to_uint8(image: np.ndarray, channels: int) -> np.ndarray:
    """An image as datasets store it.

    Args:
      image: `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16; 65535 becomes 255.
      channels: 1 turns colour to grey (ITU-R 601 luma), 3 repeats grey.

    Returns:
      `[H, W, channels]` uint8.
    """
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _with_channels(image, channels)


def to_mask(label: np.ndarray) -> tuple[np.ndarray, bool]:
    """A label as a mask.

    Args:
      label: `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16.

    Returns:
      The mask `[H, W]` bool, and whether the label had two levels: 0 and the largest value of its
      type, 0 and 1, or black and one colour. Any other label is foreground above 128 of 255.
    """
    if label.ndim == 3:
        drawn = label.any(-1)
        colours = label[drawn]
        if len(colours) and np.ptp(colours[0]) > 0 and np.all(colours == colours[0]):
            return drawn, True
        label = cv2.cvtColor(label, cv2.COLOR_RGB2GRAY)
    top = np.iinfo(label.dtype).max
    for level in (top, 1):
        if np.all((label == 0) | (label == level)):
            return label != 0, True
    return label > 128 * (top // 255), False


def encode(image: np.ndarray) -> bytes:
    """`[H, W]`, `[H, W, 1]` or RGB `[H, W, 3]`, uint8 or uint16, as PNG."""
    if image.ndim == 3 and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()


def write(path: pathlib.Path, image: np.ndarray):
    """Writes what `encode` takes as PNG, whole or not at all."""
    write_whole(path, encode(image))


def name_of(path: pathlib.Path, whole: bool = False) -> str:
    """A file's stem or whole name; accents that file systems write in two ways become one."""
    return unicodedata.normalize("NFC", path.name if whole else path.stem)


def find(folder: pathlib.Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[pathlib.Path]:
    """The image files of a folder, sorted by name; hidden ones are none.

    Raises:
      UserError: it is no folder or has no image, or two of its images share a stem.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds images")
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in suffixes
            and not path.name.startswith(".")
            and (path.is_file() or path.is_symlink())
        )
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}") from error
    if not found:
        raise UserError(f"{folder} holds no file that ends in {', '.join(suffixes)}")
    by_name: dict[str, list[pathlib.Path]] = {}
    for path in found:
        by_name.setdefault(name_of(path), []).append(path)
    if shared := [", ".join(p.name for p in same) for same in by_name.values() if len(same) > 1]:
        raise UserError(
            f"{folder} holds files that differ in their endings alone ({'; '.join(shared)}): "
            "keep one of each"
        )
    return found


def match(
    images: list[pathlib.Path],
    labels: list[pathlib.Path],
    image_prefix: str = "",
    label_prefix: str = "",
) -> tuple[
    dict[str, tuple[pathlib.Path, pathlib.Path]], list[pathlib.Path], list[pathlib.Path]
]:  # fmt: skip
    """Pairs images and labels of equal names, their prefixes apart.

    Returns:
      (image, label) by the image's name, the images without a label, the labels without an image.
    """
    rest = {name_of(path).removeprefix(label_prefix): path for path in labels}
    pairs, unlabelled = {}, []
    for path in images:
        label = rest.pop(name_of(path).removeprefix(image_prefix), None)
        if label is None:
            unlabelled.append(path)
        else:
            pairs[name_of(path)] = (path, label)
    return pairs, unlabelled, list(rest.values())


def names(paths: list[pathlib.Path]) -> str:
    return ", ".join(path.name for path in paths)


def find_pairs(
    images: pathlib.Path, labels: pathlib.Path
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Images with the labels of the same stem; endings may differ, and labels be left over.

    Raises:
      UserError: names the images without a label.
    """
    found = find(images)
    pairs, unlabelled, _ = match(found, find(labels))
    if unlabelled:
        raise UserError(
            f"{len(unlabelled)} of {len(found)} images in {images} have no label in {labels} "
            f"({names(unlabelled)}): add the labels or remove the images"
        )
    return list(pairs.values())
