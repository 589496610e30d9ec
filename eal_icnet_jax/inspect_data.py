"""Looks a dataset over before it is trained on: pictures, statistics and suspicious pairs.

    python -m eal_icnet_jax.inspect_data omv --manual_dir=DIR --output=report
    python -m eal_icnet_jax.inspect_data ic_synthetic/tiny --data_dir=DIR --output=report

The first reads a folder of images and labels as preparation would, the second a prepared dataset.
"""

import argparse
import csv
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator

import cv2
import imagehash
import numpy as np
from PIL import Image

from eal_icnet_jax import builders, images, input_pipeline, parallel, pictures, trees
from eal_icnet_jax.configs import default
from eal_icnet_jax.errors import UserError, command_parser, run_command

HASH_SIZE = 16
ALIKE = 32
"""Images whose perceptual hashes differ in at most this many of their 256 bits look alike.

Drawn micrographs differ in 80 and more; one after JPEG, noise, scaling or a shift by 2 pixels in 18
at most.
"""

Content = tuple[np.ndarray, dict[str, np.ndarray]]
"""An image `[H, W, C]` uint8 and its masks `[H, W]` bool by label."""


@dataclasses.dataclass(frozen=True)
class Member:
    """One pair of a dataset; `load` reads it, and raises a `UserError` where that fails."""

    split: str
    name: str
    load: Callable[[], Content]


@dataclasses.dataclass
class Figures:
    """What is kept of a pair.

    problem: why it could not be read, else "".
    levels: mean, standard deviation, 20th and 85th percentile of its grey image.
    foreground: each mask's fraction of the pixels.
    contrast: mean grey of each mask's foreground minus its background; NaN where one is empty.
    bits: of its perceptual hash, +1 and -1.
    """

    member: Member
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    levels: tuple[float, ...] = ()
    foreground: dict[str, float] = dataclasses.field(default_factory=dict)
    contrast: dict[str, float] = dataclasses.field(default_factory=dict)
    bits: np.ndarray | None = None


def tree_members(builder, manual_dir: pathlib.Path) -> list[Member]:
    """The pairs of a folder."""

    def load(pair):
        image, masks, _ = builder.SOURCE.read(pair)
        return image, masks

    return [
        Member(split, pair.name, lambda pair=pair: load(pair))
        for split, pairs in trees.read_tree(manual_dir, builder.SOURCE.layouts).splits.items()
        for pair in pairs
    ]


def prepared_members(dataset) -> list[Member]:
    """The examples of a prepared dataset."""
    from tensorflow_datasets import features

    builder = input_pipeline.dataset_builder(dataset)
    if not builder.is_prepared():
        raise UserError(
            f"dataset {builder.info.full_name} is not prepared in {builder.data_dir}: name the "
            "folder that it is prepared from with --manual_dir, or where it lies with --data_dir"
        )
    kinds = builder.info.features.items()
    dataset.labels = tuple(k for k, v in kinds if isinstance(v, features.Image) and k != "image")

    def load(source, index):
        example = source[index]
        name = example["name"].decode()
        image = images.to_uint8(images.decode(example["image"], name), 3)
        masks = {
            label: images.to_mask(images.decode(example[label], name))[0]
            for label in dataset.labels
        }
        return image, masks

    members = []
    for split in trees.SPLITS:
        source = input_pipeline.open_split(dataset, split)
        members += [
            Member(split, source[k]["name"].decode(), lambda s=source, k=k: load(s, k))
            for k in range(len(source))
        ]
    return members


def figures_of(member: Member) -> Figures:
    """Reads a pair and measures it."""
    try:
        image, masks = member.load()
    except UserError as error:
        return Figures(member, problem=str(error))
    grey = images.to_uint8(image if image.shape[-1] == 3 else image[..., 0], 1)[..., 0]
    contrast = {
        label: float(grey[mask].mean()) - float(grey[~mask].mean())
        if mask.any() and not mask.all()
        else math.nan
        for label, mask in masks.items()
    }
    code = imagehash.phash(Image.fromarray(grey), hash_size=HASH_SIZE).hash.ravel()
    return Figures(
        member,
        size=grey.shape,
        levels=(float(grey.mean()), float(grey.std()), *map(float, np.percentile(grey, (20, 85)))),
        foreground={label: float(mask.mean()) for label, mask in masks.items()},
        contrast=contrast,
        bits=np.where(code, 1, -1).astype(np.float32),
    )


def inverted(figures: list[Figures], label: str) -> list[bool]:
    """Whether each mask looks as if foreground and background had been swapped.

    One does that would be about as large as the others only if swapped. Where size does not tell,
    as it does not for masks of about half the image, one does whose foreground is clearly darker
    than its background while the others' is brighter, or the reverse.
    """
    contrast = np.array([f.contrast[label] for f in figures])
    if np.isnan(contrast).all():
        return [False] * len(figures)
    fraction = np.clip([f.foreground[label] for f in figures], 1e-4, 1 - 1e-4)
    odds = np.log(fraction / (1 - fraction))
    typical = np.median(odds[~np.isnan(contrast)])
    for_swap = abs(odds - typical) - abs(-odds - typical)
    usual = np.nanmedian(contrast)
    against = (contrast * np.sign(usual) < -0.5 * abs(usual)) & (abs(usual) > 5)
    return list((for_swap > 2) | ((for_swap > -2) & against))


def alike(figures: list[Figures]) -> Iterator[tuple[int, int, int]]:
    """Pairs of indices of images that look alike in two splits, and the bits that differ."""
    bits = np.stack([f.bits for f in figures]) if figures else np.zeros((0, HASH_SIZE**2))
    splits = np.array([f.member.split for f in figures])
    for first in range(len(figures)):
        rest = slice(first + 1, None)
        distance = (HASH_SIZE**2 - bits[rest] @ bits[first]) / 2
        for k in np.flatnonzero((distance <= ALIKE) & (splits[rest] != splits[first])):
            yield first, first + 1 + int(k), round(float(distance[k]))


def suspicious(figures: list[Figures]) -> list[tuple[Figures, str]]:
    """Pairs to look at again, with the reason."""
    found = [(f, f.problem) for f in figures if f.problem]
    read = [f for f in figures if not f.problem]
    for label in read[0].foreground if read else ():
        for f, swapped in zip(read, inverted(read, label), strict=True):
            if f.foreground[label] == 0:
                found.append((f, f"{label} is empty"))
            elif f.foreground[label] == 1:
                found.append((f, f"{label} is foreground everywhere"))
            elif swapped:
                found.append(
                    (f, f"{label} looks inverted: {100 * f.foreground[label]:.1f}% foreground, "
                        f"{f.contrast[label]:+.0f} grey levels against the background")
                )  # fmt: skip
    for first, second, distance in alike(read):
        other = read[second].member
        found.append((read[first], f"looks like {other.split}/{other.name}, {distance} of "
                                   f"{HASH_SIZE**2} bits differ"))  # fmt: skip
    return found


def statistics(figures: list[Figures]) -> dict[str, dict]:
    """Per split: numbers, sizes, grey levels averaged over images, and class balance."""
    out = {}
    for split in trees.SPLITS:
        own = [f for f in figures if f.member.split == split and not f.problem]
        if not own:
            continue
        heights, widths = zip(*(f.size for f in own), strict=True)
        levels = np.mean([f.levels for f in own], 0)
        pixels = np.prod([f.size for f in own], 1)
        out[split] = {
            "images": len(own),
            "height": [min(heights), max(heights)],
            "width": [min(widths), max(widths)],
            **dict(zip(("mean", "std", "p20", "p85"), levels.round(2).tolist(), strict=True)),
            "foreground": {
                label: float(np.average([f.foreground[label] for f in own], weights=pixels))
                for label in own[0].foreground
            },
        }
    return out


def table(figures: dict[str, dict]) -> str:
    """The statistics as text; class balance in percent."""

    def span(numbers):
        low, high = numbers
        return str(low) if low == high else f"{low}-{high}"

    labels = list(next(iter(figures.values()))["foreground"]) if figures else []
    head = ["split", "images", "size", "mean", "std", "p20", "p85", *(f"{x} %" for x in labels)]
    rows = [
        [split, str(own["images"]), f"{span(own['height'])}x{span(own['width'])}"]
        + [f"{own[key]:.0f}" for key in ("mean", "std", "p20", "p85")]
        + [f"{100 * own['foreground'][label]:.2f}" for label in labels]
        for split, own in figures.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    )


def cells(members: list[tuple[Member, str]]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Title, image and outlined image of each pair that can be read."""
    out = []
    for member, note in members:
        try:
            image, masks = member.load()
        except UserError:
            continue
        out.append((f"{member.name}{note}", *pictures.outlined(image, masks)))
    return out


def report(members: list[Member], output: pathlib.Path, columns: int):
    """Measures all pairs, and writes and prints what they are like.

    Writes statistics.json, suspicious.csv, contact_sheet.png, and suspicious.png where there is
    something suspicious to see.
    """
    cv2.setNumThreads(1)
    figures = []
    with builders.progress("reading", len(members)) as bar:
        for figure in parallel.in_threads(figures_of, members):
            figures.append(figure)
            bar.update()
    stats, found = statistics(figures), suspicious(figures)
    sheet = {}
    for split in stats:
        own = [f.member for f in figures if f.member.split == split and not f.problem]
        picked = np.unique(np.linspace(0, len(own) - 1, columns).round().astype(int))
        sheet[split] = cells([(own[k], "") for k in picked])
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "statistics.json").write_text(json.dumps(stats, indent=1) + "\n")
        with (output / "suspicious.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["split", "name", "reason"])
            writer.writerows([f.member.split, f.member.name, reason] for f, reason in found)
        if sheet:
            pictures.contact_sheet(output / "contact_sheet.png", sheet)
        (output / "suspicious.png").unlink(missing_ok=True)
        seen = {}
        for f, reason in found:
            seen.setdefault((f.member.split, f.member.name), (f.member, f": {reason}"))
        if drawn := cells(list(seen.values())[: 4 * columns]):
            rows = [drawn[k : k + columns] for k in range(0, len(drawn), columns)]
            titled = {f"suspicious {k + 1}": row for k, row in enumerate(rows)}
            pictures.contact_sheet(output / "suspicious.png", titled)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}") from error
    print(table(stats))
    print(f"{len(found)} suspicious pairs" + (":" if found else ""))
    for f, reason in found:
        print(f"  {f.member.split}/{f.member.name}: {reason}")
    print(f"pictures and tables in {output}")


def parser() -> argparse.ArgumentParser:
    out = command_parser("inspect_data", __doc__)
    add = out.add_argument
    add("dataset", help="such as omv, or ic_synthetic/tiny with its builder config")
    add("--manual_dir", type=pathlib.Path, help="folder of images and labels, not yet prepared")
    add("--data_dir", default="", help="where prepared datasets lie ($TFDS_DATA_DIR)")
    add("--output", type=pathlib.Path, required=True, help="folder for the report")
    add("--columns", type=int, default=6, help="images of each split on the contact sheet (6)")
    return out


def run(arguments: argparse.Namespace):
    if arguments.columns < 1:
        raise UserError(f"--columns is {arguments.columns}: it must be at least 1")
    dataset = default.get_config().dataset
    dataset.name, _, dataset.config = arguments.dataset.partition("/")
    dataset.data_dir, dataset.prepare = arguments.data_dir, False
    if arguments.manual_dir is None:
        members = prepared_members(dataset)
    else:
        builder = input_pipeline.dataset_builder(dataset)
        if not hasattr(builder, "SOURCE"):
            raise UserError(f"{dataset.name} is not read from a folder: leave out --manual_dir")
        members = tree_members(builder, pathlib.Path(os.path.expanduser(arguments.manual_dir)))
    report(members, arguments.output, arguments.columns)


def main(argv: list[str] | None = None):
    run_command(parser(), run, argv)


if __name__ == "__main__":
    main()
