"""A small dataset, drawn in the on-disk form of OMC, OMV, MIIC or HY5SYN."""

import dataclasses
import functools
import pathlib

import cv2

from eal_icnet_jax.data import paired_folders
from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.imaging import png
from eal_icnet_jax.system import workers
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import atomic_folder
from eal_icnet_jax.vector import svg_labels

KINDS = {
    "omc": "optical_circuit",
    "omv": "optical_via",
    "miic": "sem_circuit",
    "hy5syn": "sem_metal_via",
}
"""The kind of drawn examples that is like each dataset."""

SIZES = {"omc": 512, "omv": 512, "miic": 512, "hy5syn": 1024}
"""Default width of the images of each dataset, in pixels."""

SPLIT_FOLDERS = {"train": "train", "validation": "val", "test": "test"}

HY5SYN_ASPECT = 3536 / 4096
"""Height of HY5SYN's tiles relative to their width."""

MIIC_UNLABELLED = 3
"""Number of images without a label that are added to a folder in MIIC's form."""


def file_stem(dataset: str, index: int) -> str:
    """Return the name of an image without its ending."""
    return f"sem{index:04}" if dataset == "hy5syn" else f"{index:04}"


def draw_files(dataset: str, size: int, labelled: int, index: int) -> dict[str, bytes]:
    """Draw the files of one image.

    Args:
      dataset: one of `KINDS`.
      size: width of the image in pixels.
      labelled: number of images that have a label. Only MIIC has others.
      index: of the image.

    Returns:
      The content of each file, by its path in a folder that is not split.
    """
    stem = file_stem(dataset, index)
    kind = examples.kind_by_name(KINDS[dataset])
    kind = dataclasses.replace(kind, size=size, compressed=False)
    example = examples.draw_example(kind, "train", index)
    image, label = example["image"], example["label"]
    if dataset == "miic":
        contents = {f"Anomaly_train/{stem}.jpg": cv2.imencode(".jpg", image)[1].tobytes()}
        if index < labelled:
            contents[f"label/{stem}.png"] = png.encode(label)
        return contents
    if dataset == "hy5syn":
        height = round(size * HY5SYN_ASPECT)
        image, tracks, vias = (
            array[:height, :, 0] for array in (image, label, example["via_label"])
        )
        labels = svg_labels.Labels.from_masks(tracks > 0, vias > 0)
        return {
            f"sems/{stem}.png": png.encode(image),
            f"labels/label{index:04}.svg": labels.to_svg().encode(),
        }
    return {f"image/{stem}.png": png.encode(image), f"label/{stem}.png": png.encode(label)}


def splits_in_order(count: int) -> list[str]:
    """Return the split of each of `count` images, 8:1:1 with at least one in each."""
    held_out = max(1, round(count / 10))
    return ["train"] * (count - 2 * held_out) + ["validation"] * held_out + ["test"] * held_out


def _check_count(dataset: str, count: int, split: bool):
    splits = {paired_folders.split_of(file_stem(dataset, k)) for k in range(count)}
    if not split and len(splits) < 3:
        raise UserError(f"--images={count} is too few for three splits: draw 10 or more")
    if count < 3:
        raise UserError(f"--images={count} is too few for three splits: draw 3 or more")


def write_folder(dataset: str, root: pathlib.Path, count: int, size: int, split: bool):
    """Draw a dataset into a new folder. An error leaves no folder behind.

    Args:
      dataset: one of `KINDS`.
      root: must not exist.
      count: number of labelled images.
      size: side of the square images in pixels, or the width of HY5SYN's tiles.
      split: whether to lay the files out under train/, val/ and test/.

    Raises:
      UserError: the folder exists or cannot be written, or a number is too small.
    """
    if size < 64:
        raise UserError(f"--size is {size}: draw images of at least 64 pixels")
    _check_count(dataset, count, split)
    unlabelled = MIIC_UNLABELLED if dataset == "miic" else 0
    splits = splits_in_order(count) + ["train"] * unlabelled
    draw = functools.partial(draw_files, dataset, size, count)
    with atomic_folder(root) as partial:
        drawn = workers.map_in_processes(draw, range(count + unlabelled))
        for split_name, contents in zip(splits, drawn, strict=True):
            folder = partial / SPLIT_FOLDERS[split_name] if split else partial
            for name, data in contents.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
