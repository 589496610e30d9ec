"""Draws a small dataset in the on-disk form of OMC, OMV, MIIC or HY5SYN.

    python -m eal_icnet_jax.sample_tree omv DIR [--images=24] [--size=512] [--split]

The micrographs are those of ic_synthetic; they serve to try preparation, training and inspection
where the real dataset is not at hand.
"""

import argparse
import dataclasses
import functools
import pathlib

import cv2

from eal_icnet_jax import images, parallel, trees
from eal_icnet_jax.datasets.hy5syn import svg_labels
from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.errors import UserError, command_parser, run_command
from eal_icnet_jax.files import new_folder

KINDS = {
    "omc": "optical_circuit",
    "omv": "optical_via",
    "miic": "sem_circuit",
    "hy5syn": "sem_metal_via",
}
SIZES = {"omc": 512, "omv": 512, "miic": 512, "hy5syn": 1024}
FOLDERS = {"train": "train", "validation": "val", "test": "test"}
ASPECT = 3536 / 4096
"""Height by width of HY5SYN's tiles."""

UNLABELLED = 3
"""Images of a MIIC tree that have no label."""


def file_name(dataset: str, index: int) -> str:
    """The stem of an image."""
    return f"sem{index:04}" if dataset == "hy5syn" else f"{index:04}"


def files(dataset: str, size: int, labelled: int, index: int) -> dict[str, bytes]:
    """The files of one image, by their path in a flat tree; from `labelled` on without a label."""
    name = file_name(dataset, index)
    kind = next(kind for kind in examples.KINDS if kind.name == KINDS[dataset])
    kind = dataclasses.replace(kind, size=size, compressed=False)
    example = examples.draw_example(kind, "train", index)
    image, label = example["image"], example["label"]
    if dataset == "miic":
        written = {f"Anomaly_train/{name}.jpg": cv2.imencode(".jpg", image)[1].tobytes()}
        if index < labelled:
            written[f"label/{name}.png"] = images.encode(label)
        return written
    if dataset == "hy5syn":
        height = round(size * ASPECT)
        image, tracks, vias = (
            array[:height, :, 0] for array in (image, label, example["via_label"])
        )
        labels = svg_labels.Labels.of_masks(tracks > 0, vias > 0)
        return {
            f"sems/{name}.png": images.encode(image),
            f"labels/label{index:04}.svg": labels.to_svg().encode(),
        }
    return {f"image/{name}.png": images.encode(image), f"label/{name}.png": images.encode(label)}


def splits_in_order(count: int) -> list[str]:
    """The split of each of `count` images, 8:1:1 with at least one in each."""
    held = max(1, round(count / 10))
    return ["train"] * (count - 2 * held) + ["validation"] * held + ["test"] * held


def write_tree(dataset: str, root: pathlib.Path, count: int, size: int, split: bool):
    """Draws the tree, whole or not at all.

    Args:
      dataset: omc, omv, miic or hy5syn.
      root: a folder that is not there yet.
      count: of labelled images.
      size: of the square images in pixels; the width of HY5SYN's tiles.
      split: lay it out under train/, val/ and test/.

    Raises:
      UserError: the folder exists or cannot be written, or the numbers are too small.
    """
    if size < 64:
        raise UserError(f"--size is {size}: draw images of at least 64 pixels")
    if not split and len({trees.split_of(file_name(dataset, k)) for k in range(count)}) < 3:
        raise UserError(f"--images={count} is too few for three splits: draw 10 or more")
    if count < 3:
        raise UserError(f"--images={count} is too few for three splits: draw 3 or more")
    extra = UNLABELLED if dataset == "miic" else 0
    places = splits_in_order(count) + ["train"] * extra
    draw = functools.partial(files, dataset, size, count)
    with new_folder(root) as partial:
        for place, written in zip(places, parallel.in_processes(draw, count + extra), strict=True):
            for name, data in written.items():
                path = partial / (FOLDERS[place] if split else "") / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


def parser() -> argparse.ArgumentParser:
    out = command_parser("sample_tree", __doc__)
    out.add_argument("dataset", choices=KINDS)
    out.add_argument("folder", type=pathlib.Path, help="to write, not there yet")
    out.add_argument("--images", type=int, default=24, help="number of labelled images (24)")
    out.add_argument("--size", type=int, help="pixels, HY5SYN's width (512, HY5SYN 1024)")
    out.add_argument("--split", action="store_true", help="lay out as train/, val/ and test/")
    return out


def run(arguments: argparse.Namespace):
    size = SIZES[arguments.dataset] if arguments.size is None else arguments.size
    write_tree(arguments.dataset, arguments.folder, arguments.images, size, arguments.split)
    print(f"{arguments.images} images with labels in {arguments.folder}")


def main(argv: list[str] | None = None):
    run_command(parser(), run, argv)


if __name__ == "__main__":
    main()
