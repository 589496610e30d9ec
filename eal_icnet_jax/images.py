"""Image files and encoded bytes in, arrays out; masks out to PNG."""

import pathlib

import cv2
import numpy as np

from eal_icnet_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def decode(data: bytes, name: str) -> np.ndarray:
    """Decodes PNG, JPEG, TIFF or BMP.

    Args:
      data: the file's bytes.
      name: of the image, for the error.

    Returns:
      `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16. Transparency is dropped.

    Raises:
      UserError: the bytes are no such image, or one of another depth.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
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


def read(path: pathlib.Path) -> np.ndarray:
    """`decode` of a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode(data, str(path))


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
    if image.ndim == 3 and channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scaled = image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    if image.ndim == 2:
        scaled = np.repeat(scaled[..., None], channels, -1)
    return scaled


def to_mask(label: np.ndarray) -> tuple[np.ndarray, bool]:
    """A label as a mask.

    Args:
      label: `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16.

    Returns:
      The mask `[H, W]` bool, and whether the label had two levels: 0 and the largest value of its
      type, or 0 and 1. Any other label is foreground above 128 of 255.
    """
    if label.ndim == 3:
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
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(encode(image))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def find(folder: pathlib.Path) -> list[pathlib.Path]:
    """The image files of a folder, sorted by name.

    Raises:
      UserError: it is no folder or has no image, or two of its images share a stem.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds images")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise UserError(f"{folder} holds no image ({', '.join(SUFFIXES)})")
    by_stem: dict[str, pathlib.Path] = {}
    for path in found:
        other = by_stem.setdefault(path.stem, path)
        if other is not path:
            raise UserError(f"{other} and {path} share the name {path.stem!r}: rename one")
    return found


def find_pairs(
    images: pathlib.Path, labels: pathlib.Path
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Images with the labels of the same stem; endings may differ.

    Raises:
      UserError: names the images without a label.
    """
    by_stem = {path.stem: path for path in find(labels)}
    found = find(images)
    if missing := [path.name for path in found if path.stem not in by_stem]:
        raise UserError(
            f"{len(missing)} of {len(found)} images in {images} have no label in {labels}: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}; "
            "add the labels or remove the images"
        )
    return [(path, by_stem[path.stem]) for path in found]
