"""Folders of images and labels: the files are found, paired by name, checked and split."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from eal_icnet_jax.imaging import decoding, image_folders, levels, pixel_values
from eal_icnet_jax.imaging.decoding import SUFFIXES
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read
from eal_icnet_jax.system.terminal import warn

SPLITS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
"""Each split, and the names that its folder may have."""

IGNORE = "ignore"
"""Name of the folder, and of the feature, of masks of the pixels that do not count."""

VIAS = "via_label"
"""Name of the folder, and of the feature, of masks of the vias where the labels mark metal."""

SPLIT_SEED = 870
"""Seed of the split by name. With this one, few images are enough for three splits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderLayout:
    """A folder of images and a folder of labels whose files pair by name.

    Two more folders may lie beside them: `VIAS` with a mask of the vias for every image, and
    `IGNORE` with masks of the pixels that do not count, for the images that have such pixels.

    Attributes:
      images: name of the images' folder.
      labels: name of the labels' folder.
      image_suffixes: endings of image files.
      label_suffixes: endings of label files.
      image_prefix: start of an image's name that is ignored when files are paired.
      label_prefix: start of a label's name that is ignored when files are paired.
      annotated_only: whether images without a label are skipped and counted. Otherwise they are an
        error.
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
    """An image file, its label file, and the masks of its vias and ignored pixels if there are any.

    `name` is the image's stem.
    """

    name: str
    image: pathlib.Path
    label: pathlib.Path
    via: pathlib.Path | None = None
    ignore: pathlib.Path | None = None

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        """All files."""
        return self.image, self.label, *filter(None, (self.via, self.ignore))


@dataclasses.dataclass(frozen=True)
class SplitPairs:
    """The pairs of each split, sorted by name, and the number of images that are skipped."""

    splits: dict[str, tuple[Pair, ...]]
    skipped: int


def split_of(name: str) -> str:
    """Return the split of an image, which depends only on its name.

    Of all names, 8 of 10 are in "train", 1 in "validation" and 1 in "test".
    """
    digest = hashlib.sha256(f"eal-icnet-jax {SPLIT_SEED} {name}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if position < 0.8 else "validation" if position < 0.9 else "test"


def _choose_layout(folder: pathlib.Path, layouts: tuple[FolderLayout, ...]) -> FolderLayout:
    """Return the one layout whose two folders exist."""
    present = [layout for layout in layouts if (folder / layout.images).is_dir()]
    if not present:
        raise UserError(
            f"{folder} has no folder {' or '.join(x.images for x in layouts)}: it must hold "
            f"{' or '.join(map(str, layouts))}"
        )
    if len(present) > 1:
        raise UserError(
            f"{folder} holds both {' and '.join(x.images for x in present)}: keep one of them"
        )
    (layout,) = present
    if not (folder / layout.labels).is_dir():
        raise UserError(
            f"{folder} has {layout.images}/ but no folder {layout.labels}: it must hold {layout}"
        )
    return layout


def _check_links(root: pathlib.Path, paths: Iterable[pathlib.Path]):
    """Raise a `UserError` if a path is a link that leads out of the root folder."""
    real_root = os.path.realpath(root)  # unlike Path.resolve, it allows a link to itself
    outside = [
        path for path in paths if not pathlib.Path(os.path.realpath(path)).is_relative_to(real_root)
    ]
    if outside:
        raise UserError(
            f"{', '.join(str(path.relative_to(root)) for path in outside)} in {root} is a link "
            "that leads out of it: put the file itself there"
        )


def _check_names(image_dir: pathlib.Path, names: Iterable[str]):
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{image_dir} holds a file whose name {name!r} is not UTF-8: rename it"
            ) from error


def _pairs_of_folder(
    root: pathlib.Path, folder: pathlib.Path, layouts: tuple[FolderLayout, ...]
) -> tuple[tuple[Pair, ...], int]:
    """Return the pairs of one folder, and the number of images that are skipped."""
    layout = _choose_layout(folder, layouts)
    image_dir, label_dir = folder / layout.images, folder / layout.labels
    images = image_folders.find_images(image_dir, layout.image_suffixes)
    labels = image_folders.find_images(label_dir, layout.label_suffixes)
    _check_links(root, (image_dir, label_dir, *images, *labels))
    pairs, unlabelled, unused = image_folders.match_by_name(
        images, labels, layout.image_prefix, layout.label_prefix
    )
    further, problems = {}, []
    for name in (VIAS, IGNORE):
        further[name], superfluous = _further_masks(root, folder / name, layout, list(pairs))
        if superfluous:
            names = image_folders.joined_names(superfluous)
            problems.append(f"files in {folder / name} without a labelled image ({names})")
    if further[VIAS] and (missing := [path for key, (path, _) in pairs.items()
                                      if key not in further[VIAS]]):  # fmt: skip
        names = image_folders.joined_names(missing)
        problems.append(f"images without a mask in {folder / VIAS} ({names})")
    if unlabelled and not layout.annotated_only:
        names = image_folders.joined_names(unlabelled)
        problems.append(f"images without a label in {label_dir} ({names})")
    if unused:
        names = image_folders.joined_names(unused)
        problems.append(f"labels without an image in {image_dir} ({names})")
    if problems:
        raise UserError(
            f"{folder} holds {' and '.join(problems)}: add the missing files or remove the "
            "superfluous ones"
        )
    _check_names(image_dir, pairs)
    found = tuple(
        Pair(name, *paths, further[VIAS].get(name), further[IGNORE].get(name))
        for name, paths in sorted(pairs.items())
    )
    return found, len(unlabelled)


def _further_masks(
    root: pathlib.Path, folder: pathlib.Path, layout: FolderLayout, names: list[str]
) -> tuple[dict[str, pathlib.Path], list[pathlib.Path]]:
    """Return the files of a folder of masks by the name of their image, and those without one."""
    if not folder.is_dir():
        return {}, []
    files = image_folders.find_images(folder)
    _check_links(root, (folder, *files))
    by_stem = {image_folders.stem_of(path): path for path in files}
    found = {}
    for name in names:
        for stem in (name, name.removeprefix(layout.image_prefix)):
            if stem in by_stem:
                found[name] = by_stem.pop(stem)
                break
    return found, list(by_stem.values())


def _split_by_name(root: pathlib.Path, layouts: tuple[FolderLayout, ...]) -> SplitPairs:
    pairs, skipped = _pairs_of_folder(root, root, layouts)
    splits = {
        split: tuple(pair for pair in pairs if split_of(pair.name) == split) for split in SPLITS
    }
    if empty := [split for split, members in splits.items() if not members]:
        raise UserError(
            f"the 8:1:1 split by name leaves {' and '.join(empty)} of the {len(pairs)} images "
            f"in {root} empty: add images, or lay them out under train/, val/ and test/"
        )
    return SplitPairs(splits, skipped)


def _split_folders(
    root: pathlib.Path, layouts: tuple[FolderLayout, ...]
) -> dict[str, pathlib.Path]:
    """Return the folder of each split, or an empty dict if the root has none."""
    folders = {
        split: [root / alias for alias in aliases if (root / alias).is_dir()]
        for split, aliases in SPLITS.items()
    }
    present = ", ".join(path.name for paths in folders.values() for path in paths)
    if not present:
        return {}
    if flat := [layout.images for layout in layouts if (root / layout.images).is_dir()]:
        raise UserError(
            f"{root} holds {' and '.join(flat)} beside {present}: keep the flat folders or the "
            "split ones"
        )
    missing = [split for split, paths in folders.items() if not paths]
    if missing and present != "train":
        raise UserError(
            f"{root} holds {present} but no folder for {' and '.join(missing)}: a folder that is "
            "already split has train/, val/ and test/, or train/ only"
        )
    if doubled := [paths for paths in folders.values() if len(paths) > 1]:
        raise UserError(
            f"{root} holds {' and '.join(path.name for path in doubled[0])}, which are the same "
            "split: keep one"
        )
    return {split: paths[0] for split, paths in folders.items() if paths}


def find_split_pairs(root: pathlib.Path, layouts: tuple[FolderLayout, ...]) -> SplitPairs:
    """Find the pairs of a folder that is flat, or already split into train, val and test.

    A flat folder is split by `split_of`. No file is opened.

    Args:
      root: the folder.
      layouts: forms that the folder, or each of its splits, may have.

    Raises:
      UserError: a folder or a split is missing or cannot be read, images or labels have no partner,
        two files differ only in their endings, or a link leads out of the folder.
    """
    try:
        if not root.is_dir():
            raise UserError(
                f"{root} is not a folder: name one with {' or '.join(map(str, layouts))}, flat or "
                "under train/, val/ and test/"
            )
        folders = _split_folders(root, layouts)
        if not folders:
            return _split_by_name(root, layouts)
        found = {split: _pairs_of_folder(root, path, layouts) for split, path in folders.items()}
    except OSError as error:
        raise cannot_be_read(error.filename or root, error) from error
    return SplitPairs(
        {split: pairs for split, (pairs, _) in found.items()},
        sum(skipped for _, skipped in found.values()),
    )


Labels = tuple[dict[str, np.ndarray], tuple[str, ...]]
"""The masks `[H, W]` bool of a label file by name, with `IGNORE` where some pixels do not count;
and a sentence for each thing that a user should know."""


def read_mask(path: pathlib.Path, ignore_value: int = -1) -> Labels:
    """Read a label image, whose mask gets the name `label`.

    Args:
      path: of the file.
      ignore_value: level of the pixels that do not count, below 0 for none.
    """
    data = decoding.read_bytes(path)
    if ignore_value < 0:
        mask, notes = decoding.decode_mask(data, str(path))
        return {"label": mask}, notes
    mask, ignored, notes = decoding.decode_mask_but(data, str(path), ignore_value)
    return {"label": mask, IGNORE: ignored}, notes


@dataclasses.dataclass(frozen=True)
class Content:
    """The pixels of a pair.

    Attributes:
      image: `[H, W, channels]` uint8.
      masks: `[H, W]` bool by label.
      ignored: `[H, W]` bool, where pixels do not count.
      image_notes: a sentence for each thing about the image that a user should know.
      label_notes: likewise about the label.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    ignored: np.ndarray
    image_notes: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFormat:
    """The form of a dataset's files.

    Attributes:
      layouts: forms of folders that are accepted.
      channels: of its images as they are stored, 1 or 3.
      labels: names of its masks.
      read_labels: reads a label file.
      has_levels: whether label files have levels, so that one of them may mark what is ignored.
    """

    layouts: tuple[FolderLayout, ...] = (FolderLayout(),)
    channels: int
    labels: tuple[str, ...] = ("label",)
    read_labels: Callable[..., Labels] = read_mask
    has_levels: bool = True

    def read(
        self,
        pair: Pair,
        white: int | None = None,
        unstated_white: int | None = None,
        ignore_value: int = -1,
    ) -> Content:
        """Read a pair.

        Args:
          pair: of files.
          white: level of white of the image; None for what the file states or shows.
          unstated_white: level of white of an image of 16 bits whose file states none.
          ignore_value: level of the label's pixels that do not count, below 0 for none.

        Raises:
          UserError: a file cannot be read, the files differ in size, or all pixels are ignored.
        """
        image, image_notes = decoding.decode(
            decoding.read_bytes(pair.image), str(pair.image), white, unstated_white
        )
        image = pixel_values.to_uint8(image, self.channels)
        if ignore_value >= 0 and not self.has_levels:
            raise UserError(
                f"{pair.label} has no levels, so that config.dataset.ignore_value={ignore_value} "
                f"means nothing: put masks of what is ignored into a folder {IGNORE} instead"
            )
        masks, label_notes = (
            self.read_labels(pair.label, ignore_value)
            if ignore_value >= 0
            else self.read_labels(pair.label)
        )
        height, width = next(iter(masks.values())).shape
        _check_size(pair.label, (height, width), pair.image, image.shape[:2])
        ignored = masks.pop(IGNORE, np.zeros((height, width), bool))
        for path in filter(None, (pair.via, pair.ignore)):
            mask, notes = decoding.decode_mask(decoding.read_bytes(path), str(path))
            _check_size(path, mask.shape, pair.image, image.shape[:2])
            if path == pair.via:
                masks[VIAS] = mask
            else:
                ignored |= mask
            label_notes += tuple(f"{path.parent.name}/ {note}" for note in notes)
        if ignored.all():
            raise UserError(f"{pair.image} is ignored everywhere: remove it")
        masks = {name: mask & ~ignored for name, mask in masks.items()}
        return Content(image, masks, ignored, image_notes, label_notes)


def _check_size(
    path: pathlib.Path, size: tuple[int, int], image: pathlib.Path, image_size: tuple[int, ...]
):
    """Raise a `UserError` if a file has another size than its image."""
    if size != tuple(image_size):
        raise UserError(
            f"{path} is {size[0]}x{size[1]}, but {image} is {image_size[0]}x{image_size[1]} "
            "(height x width): make them one size"
        )


def common_white(paths: Iterable[pathlib.Path]) -> int | None:
    """Return the level of white that all images of 16 bits share which do not state their own.

    It is that of the largest level among them all, so that equal levels stay equal, and reported
    unless it is that of 16 bits. None if there is no such image. Files that cannot be read are
    passed over: reading the pair reports them.
    """
    largest = 0
    for path in paths:
        try:
            data = decoding.read_bytes(path)
            if not decoding.may_have_16_bits(data):
                continue
            mosaic = decoding.open_encoded(data, str(path))
        except UserError:
            continue
        if mosaic.dtype == np.uint16 and mosaic.white is None:
            largest = max(largest, levels.largest_level(mosaic))
            if largest > levels.WHITE_LEVELS[-2]:
                break
    if not largest:
        return None
    white = levels.white_of(largest)
    if white < levels.WHITE_LEVELS[-1]:
        warn(
            f"no image of 16 bits has a level above {white}, which is therefore taken for white in "
            "all splits: --config.dataset.white names another level"
        )
    return white
