"""Inspection of a dataset before training on it: statistics, and pairs that look wrong."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator

import imagehash
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from eal_icnet_jax.data import dataset_builders, paired_folders, prepared_datasets
from eal_icnet_jax.imaging import decoding, pixel_values
from eal_icnet_jax.system.errors import UserError

HASH_SIZE = 16
"""Side of a perceptual hash, which has `HASH_SIZE**2` bits."""

MAX_DIFFERENT_BITS = 32
"""Largest number of bits by which the perceptual hashes of similar images differ.

Drawn micrographs differ in 80 bits or more, and an image after JPEG, noise, scaling or a shift by 2
pixels in at most 18.
"""

Content = tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, list[str]]
"""An image `[H, W, C]` uint8, its masks `[H, W]` bool by label, the mask `[H, W]` bool of the
pixels that count, and what was assumed of its files."""


@dataclasses.dataclass(frozen=True)
class DatasetPair:
    """An image of a dataset with its masks.

    Attributes:
      split: "train", "validation" or "test".
      name: of the image.
      load: reads them; raises a `UserError` if that fails.
    """

    split: str
    name: str
    load: Callable[[], Content]


@dataclasses.dataclass
class PairStatistics:
    """Measurements of a pair.

    Attributes:
      pair: that was measured.
      problem: why it cannot be read, or an empty text. The other attributes are then not set.
      size: height and width in pixels.
      levels: mean, standard deviation, 20th and 85th percentile of the grey image.
      ignored: fraction of pixels that do not count.
      foreground: fraction of each mask's other pixels that are foreground.
      contrast: mean grey level of each mask's foreground minus that of its background; NaN if
        either is empty.
      hash_bits: perceptual hash of the image, `[HASH_SIZE**2]` float32 of +1 and -1.
      notes: what was assumed of its files, such as which of a label's levels are foreground.
    """

    pair: DatasetPair
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    levels: tuple[float, ...] = ()
    ignored: float = 0.0
    foreground: dict[str, float] = dataclasses.field(default_factory=dict)
    contrast: dict[str, float] = dataclasses.field(default_factory=dict)
    hash_bits: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def pairs_of_folder(builder, manual_dir: pathlib.Path) -> list[DatasetPair]:
    """Return the pairs of a folder that a dataset is prepared from.

    Args:
      builder: of the dataset, with a `SOURCE`.
      manual_dir: the folder.

    Raises:
      UserError: the folder cannot be used.
    """

    def load(pair: paired_folders.Pair) -> Content:
        content = builder.SOURCE.read(pair, unstated_white=white)
        notes = [*content.image_notes, *(f"its label {note}" for note in content.label_notes)]
        return content.image, content.masks, ~content.ignored, notes

    found = paired_folders.find_split_pairs(manual_dir, builder.SOURCE.layouts)
    white = paired_folders.common_white(
        pair.image for pairs in found.splits.values() for pair in pairs
    )
    return [
        DatasetPair(split, pair.name, functools.partial(load, pair))
        for split, pairs in found.splits.items()
        for pair in pairs
    ]


def pairs_of_prepared(dataset: ConfigDict) -> list[DatasetPair]:
    """Return the examples of a prepared dataset with all its masks.

    Args:
      dataset: `config.dataset`, whose labels are ignored.

    Raises:
      UserError: it is not prepared, or cannot be read.
    """
    builder = dataset_builders.dataset_builder(dataset)
    if not builder.is_prepared():
        raise UserError(
            f"dataset {builder.info.full_name} is not prepared in {builder.data_dir}: name the "
            "folder that it is prepared from with --manual-dir, or the folder of prepared datasets "
            "with --data-dir"
        )
    dataset = dataset.copy_and_resolve_references()
    dataset.allow_empty_labels = True  # they are what an inspection looks for
    dataset.labels = prepared_datasets.mask_names(builder)

    def load(source, index: int) -> Content:
        example = source[index]
        name = example["name"].decode()
        image = pixel_values.to_uint8(decoding.decode(example["image"], name)[0], 3)
        masks = {label: decoding.decode_mask(example[label], name)[0] for label in dataset.labels}
        valid = np.ones(image.shape[:2], bool)
        if paired_folders.IGNORE in example:
            valid = ~decoding.decode_mask(example[paired_folders.IGNORE], name)[0]
        return image, masks, valid, []

    pairs = []
    for split in paired_folders.SPLITS:
        source = prepared_datasets.open_split(dataset, split)
        pairs += [
            DatasetPair(split, source[k]["name"].decode(), functools.partial(load, source, k))
            for k in range(len(source))
        ]
    return pairs


def measure(pair: DatasetPair) -> PairStatistics:
    """Read a pair and measure it."""
    try:
        image, masks, valid, notes = pair.load()
    except UserError as error:
        return PairStatistics(pair, problem=str(error))
    grey = pixel_values.to_uint8(image if image.shape[-1] == 3 else image[..., 0], 1)[..., 0]

    def contrast(mask: np.ndarray) -> float:
        if mask[valid].all() or not mask.any():
            return math.nan
        return float(grey[mask].mean()) - float(grey[valid & ~mask].mean())

    bits = imagehash.phash(Image.fromarray(grey), hash_size=HASH_SIZE).hash.ravel()
    return PairStatistics(
        pair,
        size=grey.shape,
        levels=(float(grey.mean()), float(grey.std()), *map(float, np.percentile(grey, (20, 85)))),
        ignored=1 - float(valid.mean()),
        foreground={label: float(mask[valid].mean()) for label, mask in masks.items()},
        contrast={label: contrast(mask) for label, mask in masks.items()},
        hash_bits=np.where(bits, 1, -1).astype(np.float32),
        notes=tuple(notes),
    )


def looks_inverted(measured: list[PairStatistics], label: str) -> list[bool]:
    """Return for each mask whether foreground and background seem to be swapped.

    That is so if the mask's area would be typical only after swapping. If the area does not decide,
    as for masks of about half the image, it is so if the contrast between foreground and background
    is clear and opposite to that of most masks.
    """
    contrast = np.array([m.contrast[label] for m in measured])
    if np.isnan(contrast).all():
        return [False] * len(measured)
    fraction = np.clip([m.foreground[label] for m in measured], 1e-4, 1 - 1e-4)
    log_odds = np.log(fraction / (1 - fraction))
    typical = np.median(log_odds[~np.isnan(contrast)])
    gain_of_swapping = abs(log_odds - typical) - abs(-log_odds - typical)
    usual = np.nanmedian(contrast)
    is_opposite = (contrast * np.sign(usual) < -0.5 * abs(usual)) & (abs(usual) > 5)
    return list((gain_of_swapping > 2) | ((gain_of_swapping > -2) & is_opposite))


def similar_images(measured: list[PairStatistics]) -> Iterator[tuple[int, int, int]]:
    """Yield two indices and the number of different bits for similar images of two splits."""
    hashes = [m.hash_bits for m in measured]
    bits = np.stack(hashes) if hashes else np.zeros((0, HASH_SIZE**2))
    splits = np.array([m.pair.split for m in measured])
    for first in range(len(measured)):
        rest = slice(first + 1, None)
        distance = (HASH_SIZE**2 - bits[rest] @ bits[first]) / 2
        is_similar = (distance <= MAX_DIFFERENT_BITS) & (splits[rest] != splits[first])
        for k in np.flatnonzero(is_similar):
            yield first, first + 1 + int(k), round(float(distance[k]))


def find_suspicious(measured: list[PairStatistics]) -> list[tuple[DatasetPair, str]]:
    """Return the pairs that a person should look at, each with the reason."""
    found = [(m.pair, m.problem) for m in measured if m.problem]
    readable = [m for m in measured if not m.problem]
    found += [(m.pair, note) for m in readable for note in m.notes]
    for label in readable[0].foreground if readable else ():
        for m, is_inverted in zip(readable, looks_inverted(readable, label), strict=True):
            if m.foreground[label] == 0:
                found.append((m.pair, f"{label} is empty"))
            elif m.foreground[label] == 1:
                found.append((m.pair, f"{label} is foreground everywhere"))
            elif is_inverted:
                reason = (
                    f"{label} looks inverted: {100 * m.foreground[label]:.1f}% foreground, "
                    f"{m.contrast[label]:+.0f} grey levels against the background"
                )
                found.append((m.pair, reason))
    for first, second, distance in similar_images(readable):
        other = readable[second].pair
        reason = f"looks like {other.split}/{other.name}, {distance} of {HASH_SIZE**2} bits differ"
        found.append((readable[first].pair, reason))
    return found


def summarize(measured: list[PairStatistics]) -> dict[str, dict]:
    """Return a JSON object of each split: number of images, sizes, grey levels, class balance."""
    out = {}
    for split in paired_folders.SPLITS:
        own = [m for m in measured if m.pair.split == split and not m.problem]
        if not own:
            continue
        heights, widths = zip(*(m.size for m in own), strict=True)
        levels = np.mean([m.levels for m in own], 0)
        pixels = np.prod([m.size for m in own], 1)
        counted = pixels * [1 - m.ignored for m in own]
        out[split] = {
            "images": len(own),
            "height": [min(heights), max(heights)],
            "width": [min(widths), max(widths)],
            **dict(zip(("mean", "std", "p20", "p85"), levels.round(2).tolist(), strict=True)),
            "ignored": float(np.average([m.ignored for m in own], weights=pixels)),
            "foreground": {
                label: float(np.average([m.foreground[label] for m in own], weights=counted))
                for label in own[0].foreground
            },
        }
    return out
