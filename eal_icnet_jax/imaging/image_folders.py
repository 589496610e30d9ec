"""Image files of a folder, found and paired by name."""

import pathlib
import re
import unicodedata

from eal_icnet_jax.imaging.decoding import SUFFIXES
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read

Pair = tuple[pathlib.Path, pathlib.Path]
"""Paths of an image and of its label."""


def normalized(name: str) -> str:
    """Return a file name in Unicode's NFC form, because file systems store accents in two forms."""
    return unicodedata.normalize("NFC", name)


def stem_of(path: pathlib.Path) -> str:
    """Return the name of an image, Zarr or file of tiles without its endings, as `.ome.tif`."""
    endings = "|".join(map(re.escape, (*SUFFIXES, ".svg", ".zarr", ".csv", ".txt")))
    return re.sub(rf"(\.ome)?({endings})$", "", normalized(path.name), flags=re.I)


def find_images(folder: pathlib.Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[pathlib.Path]:
    """Return the image files of a folder, sorted by name, without hidden files.

    Args:
      folder: is not searched recursively.
      suffixes: endings of image files, in lower case.

    Raises:
      UserError: it is not a folder or holds no image, or two of its images share a stem.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds images")
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in suffixes
            and not path.name.startswith(".")
            and (path.is_file() or path.is_symlink())
        )
    except OSError as error:
        raise cannot_be_read(folder, error) from error
    if not paths:
        raise UserError(f"{folder} holds no file that ends in {', '.join(suffixes)}")
    by_stem: dict[str, list[pathlib.Path]] = {}
    for path in paths:
        by_stem.setdefault(stem_of(path), []).append(path)
    if ambiguous := [joined_names(group) for group in by_stem.values() if len(group) > 1]:
        raise UserError(
            f"{folder} holds files that differ only in their endings ({'; '.join(ambiguous)}): "
            "keep one of each"
        )
    return paths


def match_by_name(
    images: list[pathlib.Path],
    labels: list[pathlib.Path],
    image_prefix: str = "",
    label_prefix: str = "",
) -> tuple[dict[str, Pair], list[pathlib.Path], list[pathlib.Path]]:
    """Pair images and labels whose stems are equal once the prefixes are removed.

    Returns:
      The pairs by the image's stem, the images without a label, and the labels without an image.
    """
    unused = {stem_of(path).removeprefix(label_prefix): path for path in labels}
    pairs, unlabelled = {}, []
    for path in images:
        stem = stem_of(path)
        label = unused.pop(stem.removeprefix(image_prefix), None)
        if label is None:
            unlabelled.append(path)
        else:
            pairs[stem] = (path, label)
    return pairs, unlabelled, list(unused.values())


def joined_names(paths: list[pathlib.Path]) -> str:
    """Return the file names, separated by commas."""
    return ", ".join(path.name for path in paths)


def find_pairs(images: pathlib.Path, labels: pathlib.Path) -> tuple[list[Pair], list[pathlib.Path]]:
    """Return the images of a folder, each with the label of the same stem from another folder.

    Endings may differ.

    Returns:
      The pairs, and the labels that are left over.

    Raises:
      UserError: a folder cannot be used (see `find_images`), or images have no label.
    """
    image_paths = find_images(images)
    pairs, unlabelled, unused = match_by_name(image_paths, find_images(labels))
    if unlabelled:
        raise UserError(
            f"{len(unlabelled)} of {len(image_paths)} images in {images} have no label in {labels} "
            f"({joined_names(unlabelled)}): add the labels or remove the images"
        )
    return list(pairs.values()), unused
