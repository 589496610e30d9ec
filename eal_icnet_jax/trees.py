"""Folders of images and labels as people have them, found, paired, checked and split."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from eal_icnet_jax import images
from eal_icnet_jax.errors import UserError
from eal_icnet_jax.images import SUFFIXES

SPLITS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
"""Each split, and the names that its folder may have."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Two folders whose files pair by name.

    images, labels: the folders' names.
    image_suffixes, label_suffixes: the endings of their files.
    image_prefix, label_prefix: what the names begin with, before what pairs them.
    annotated_only: images without a label are skipped and counted; else they are an error.
    """

    images: str = "image"
    labels: str = "label"
    image_suffixes: tuple[str, ...] = SUFFIXES
    label_suffixes: tuple[str, ...] = SUFFIXES
    image_prefix: str = ""
    label_prefix: str = ""
    annotated_only: bool = False

    def __str__(self):
        return f"{self.images}/ and {self.labels}/"


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and its label file; `name` is the image's stem."""

    name: str
    image: pathlib.Path
    label: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Tree:
    """The pairs of each split, sorted by name, and the images that were skipped."""

    splits: dict[str, tuple[Pair, ...]]
    skipped: int


SPLIT_SEED = 870
"""Any number would do; with this one few images are enough for three splits."""


def split_of(name: str) -> str:
    """The split of a name: 8 of 10 in train, 1 in validation, 1 in test, by its hash alone."""
    digest = hashlib.sha256(f"eal-icnet-jax {SPLIT_SEED} {name}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if place < 0.8 else "validation" if place < 0.9 else "test"


def names_digest(names: Iterable[str]) -> str:
    """SHA-256 of the sorted names, a line each."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def _inside(root: pathlib.Path, path: pathlib.Path) -> bool:
    return path.resolve().is_relative_to(root)


def _read_pairs(
    root: pathlib.Path, folder: pathlib.Path, layouts: tuple[Layout, ...]
) -> tuple[tuple[Pair, ...], int]:
    """The pairs of one folder, and how many images were skipped."""
    accepted = " or ".join(map(str, layouts))
    there = [layout for layout in layouts if (folder / layout.images).is_dir()]
    if not there:
        raise UserError(f"{folder} has no folder {' or '.join(x.images for x in layouts)}: "
                        f"it must hold {accepted}")  # fmt: skip
    if len(there) > 1:
        raise UserError(
            f"{folder} holds both {' and '.join(x.images for x in there)}: keep one of them"
        )
    (layout,) = there
    image_dir, label_dir = folder / layout.images, folder / layout.labels
    if not label_dir.is_dir():
        raise UserError(f"{folder} has {layout.images}/ but no folder {layout.labels}: "
                        f"it must hold {layout}")  # fmt: skip
    found = images.find(image_dir, layout.image_suffixes)
    labels = images.find(label_dir, layout.label_suffixes)
    real = root.resolve()
    if outside := [p for p in (image_dir, label_dir, *found, *labels) if not _inside(real, p)]:
        raise UserError(
            f"{', '.join(str(p.relative_to(root)) for p in outside)} in {root} is a link that "
            "leads out of it: put the file itself there"
        )
    pairs, unlabelled, unused = images.match(
        found, labels, layout.image_prefix, layout.label_prefix
    )
    problems = []
    if unlabelled and not layout.annotated_only:
        problems.append(f"images without a label in {label_dir} ({images.names(unlabelled)})")
    if unused:
        problems.append(f"labels without an image in {image_dir} ({images.names(unused)})")
    if problems:
        raise UserError(f"{folder} holds {' and '.join(problems)}: add what is missing or remove "
                        "what is left over")  # fmt: skip
    for name in pairs:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{image_dir} holds a file whose name {name!r} is not UTF-8: rename it"
            ) from error
    return tuple(Pair(name, *paths) for name, paths in sorted(pairs.items())), len(unlabelled)


def read_tree(root: pathlib.Path, layouts: tuple[Layout, ...]) -> Tree:
    """Finds the pairs of a folder that is flat, or split into train, val and test already.

    A flat folder is split by `split_of`. No file is opened.

    Raises:
      UserError: a folder or a split is missing, images or labels have no partner, two files differ
        in their endings alone, or a link leads out of the folder.
    """
    accepted = " or ".join(map(str, layouts))
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder: name one with {accepted}, flat or under train/, val/ and "
            "test/"
        )
    folders = {
        split: [root / alias for alias in aliases if (root / alias).is_dir()]
        for split, aliases in SPLITS.items()
    }
    given = [path for paths in folders.values() for path in paths]
    if not given:
        pairs, skipped = _read_pairs(root, root, layouts)
        splits = {
            split: tuple(pair for pair in pairs if split_of(pair.name) == split) for split in SPLITS
        }
        if empty := [split for split, members in splits.items() if not members]:
            raise UserError(
                f"the 8:1:1 split by name leaves {' and '.join(empty)} of the {len(pairs)} images "
                f"in {root} empty: add images, or lay them out under train/, val/ and test/"
            )
        return Tree(splits, skipped)
    if mixed := [layout.images for layout in layouts if (root / layout.images).is_dir()]:
        raise UserError(
            f"{root} holds {' and '.join(mixed)} beside {', '.join(p.name for p in given)}: "
            "keep the flat folders or the split ones"
        )
    if missing := [split for split, paths in folders.items() if not paths]:
        raise UserError(
            f"{root} holds {', '.join(p.name for p in given)} but no folder for "
            f"{' and '.join(missing)}: a split tree has train/, val/ and test/"
        )
    if double := [paths for paths in folders.values() if len(paths) > 1]:
        raise UserError(
            f"{root} holds {' and '.join(p.name for p in double[0])}, which are the same split: "
            "keep one"
        )
    read = {split: _read_pairs(root, path, layouts) for split, (path,) in folders.items()}
    return Tree({split: pairs for split, (pairs, _) in read.items()},
                sum(skipped for _, skipped in read.values()))  # fmt: skip


def read_mask(path: pathlib.Path) -> tuple[dict[str, np.ndarray], bool]:
    """A label image as `label`, `[H, W]` bool, and whether it had two levels."""
    mask, two_levels = images.to_mask(images.read(path))
    return {"label": mask}, two_levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """What is particular to a dataset's files.

    layouts: the folders it may come in.
    channels: of its images as they are stored, 1 or 3.
    labels: its masks' names.
    read_labels: a label file's masks `[H, W]` bool by name, and whether they had two levels.
    """

    layouts: tuple[Layout, ...] = (Layout(),)
    channels: int
    labels: tuple[str, ...] = ("label",)
    read_labels: Callable[[pathlib.Path], tuple[dict[str, np.ndarray], bool]] = read_mask

    def read(self, pair: Pair) -> tuple[np.ndarray, dict[str, np.ndarray], bool]:
        """A pair's image `[H, W, channels]` uint8, and what `read_labels` returns.

        Raises:
          UserError: a file cannot be read, or the two differ in size.
        """
        image = images.to_uint8(images.read(pair.image), self.channels)
        masks, two_levels = self.read_labels(pair.label)
        height, width = next(iter(masks.values())).shape
        if (height, width) != image.shape[:2]:
            raise UserError(
                f"{pair.label} is {height}x{width}, but {pair.image} is "
                f"{image.shape[0]}x{image.shape[1]} (height x width): make them one size"
            )
        return image, masks, two_levels
