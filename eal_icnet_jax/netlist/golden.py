"""Differences of a found layer from a golden one: where they are, how large, what they connect."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from eal_icnet_jax.evaluation.electrical import Fault, Regions, find_faults
from eal_icnet_jax.imaging import mosaic_files
from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.imaging.mosaics import MAX_PIXELS, check_pixel_count
from eal_icnet_jax.imaging.regions import connected_regions
from eal_icnet_jax.netlist.registration import Registration
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector.layout_options import LAYERS, is_layout, square_pixel_size
from eal_icnet_jax.vector.layout_reader import Box, DrawnLayout, read_layout

EFFECTS = {
    "opens": "open",
    "shorts": "short",
    "false_positives": "added wire",
    "false_negatives": "missing wire",
}
"""What each kind of `electrical.Fault` is called here."""


LEFT_OUT = 0.002
"""Largest part of the metal of a side that is left out without a word, of rounding at edges."""


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
      path: of its metal.
      masks: of `metal`, and of `via` if it is known which vias there are, `[H, W]` bool.
      origin: place of the lower left corner in micrometres, y upwards.
      pixel_size: side of a pixel in micrometres.
      notes: a sentence for each thing that a user should know.
    """

    path: pathlib.Path
    masks: dict[str, np.ndarray]
    origin: tuple[float, float]
    pixel_size: float
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.masks["metal"].shape


class Overlay(NamedTuple):
    """What a side shows, as it lies over the golden one.

    masks: as of a `Side`, in the pixels of the golden side.
    inside: `[H, W]` bool, where it has pixels.
    """

    masks: dict[str, np.ndarray]
    inside: np.ndarray


class Difference(NamedTuple):
    """A difference.

    kind: "missing metal", "added metal", "moved metal", "missing via" or "added via".
    effects: what it does to nets, such as ("open",).
    box: left, top, right and bottom pixel of the golden mask, inclusive.
    missing, added: numbers of pixels.
    """

    kind: str
    effects: tuple[str, ...]
    box: tuple[int, int, int, int]
    missing: int
    added: int

    @property
    def matters(self) -> bool:
        """Whether it changes nets, or is a via."""
        return bool(self.effects) or self.kind.endswith("via")


def stated_pixel_size(path: pathlib.Path) -> float | None:
    """Return the pixel size that a mask states, or None."""
    return square_pixel_size(mosaic_files.open_mosaic(path).pixel_size)


def read_side(path: pathlib.Path, via: pathlib.Path | None, pixel_size: float) -> Side:
    """Read a layout, or masks of metal and vias, with pixels of a size.

    Masks that state another size of their pixels are resampled.

    Args:
      path: of a layout with metal on layer 1/0 and vias on 2/0, or of a mask of metal.
      via: of a mask of vias.
      pixel_size: side of a pixel in micrometres.

    Raises:
      UserError: it cannot be read, holds no metal, or is too large.
    """
    if not is_layout(path):
        masks, notes = {}, []
        for kind, file in (("metal", path), ("via", via)):
            if file is not None:
                mosaic = mosaic_files.open_mosaic(file)
                mask = MosaicMask(mosaic)
                check_pixel_count(str(file), mask.shape)
                pixels = mask[0 : mask.shape[0], 0 : mask.shape[1]]
                notes += [f"{file}: {note}" for note in mask.notes]
                stated = square_pixel_size(mosaic.pixel_size) or pixel_size
                if not math.isclose(stated, pixel_size, rel_tol=0.01):
                    notes.append(f"{file} states pixels of {stated:g} micrometres, and is compared "
                                 f"with pixels of {pixel_size:g}")  # fmt: skip
                    shape = tuple(max(1, round(side * stated / pixel_size)) for side in mask.shape)
                    check_pixel_count(str(file), shape)
                    pixels = _resampled(pixels, shape)
                masks[kind] = pixels
        shapes = {mask.shape for mask in masks.values()}
        if len(shapes) > 1:
            raise UserError(f"{path} and {via} differ in size: name two masks of one image")
        return Side(path, masks, (0.0, 0.0), pixel_size, tuple(notes))
    drawn = DrawnLayout(path, read_layout(path))
    boxes = {kind: drawn.bounds(layer) for kind, layer in LAYERS.items()}
    if boxes["metal"] is None:
        raise UserError(f"{path} has no metal on layer 1/0: put it there")
    known = [box for box in boxes.values() if box is not None]
    left, bottom = min(box.left for box in known), min(box.bottom for box in known)
    extent = Box(left, bottom, max(box.right for box in known), max(box.top for box in known))
    height, width = ((end - start) / pixel_size
                     for start, end in ((bottom, extent.top), (left, extent.right)))  # fmt: skip
    if not (height - 0.5) * (width - 0.5) <= MAX_PIXELS:
        raise UserError(
            f"{path} is {width:.0f}x{height:.0f} pixels of {pixel_size:g} micrometres, too many to "
            "compare at once: name a larger --pixel-size, or write it in its right units"
        )
    shape = max(1, round(height)), max(1, round(width))
    masks = {
        kind: drawn.mask(layer, shape, pixel_size, (left, bottom))[0 : shape[0], 0 : shape[1]]
        if boxes[kind] is not None
        else np.zeros(shape, bool)
        for kind, layer in LAYERS.items()
    }
    return Side(path, masks, (left, bottom), pixel_size)


def _resampled(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask with another number of pixels."""
    levels = 255 * mask.astype(np.uint8)
    return cv2.resize(levels, shape[::-1], interpolation=cv2.INTER_AREA) >= 128


def _far_from(mask: np.ndarray, other: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the pixels of a mask whose distance from another one is above a tolerance."""
    distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, 5)
    return mask & (distance > tolerance)


def _metal_differences(
    golden: np.ndarray, found: np.ndarray, tolerance: float
) -> Iterator[Difference]:
    """Yield the places where metal differs, without their effects."""
    missing, added = _far_from(golden, found, tolerance), _far_from(found, golden, tolerance)
    reach = 2 * round(2 * tolerance) + 1
    near = cv2.dilate((missing | added).astype(np.uint8), np.ones((reach, reach), np.uint8))
    regions, statistics = connected_regions(near)
    counts = [np.bincount(regions[part], minlength=len(statistics)) for part in (missing, added)]
    smallest = max(4.0, (2 * tolerance) ** 2)
    for k in range(1, len(statistics)):
        fewer, more = int(counts[0][k]), int(counts[1][k])
        if fewer + more < smallest:
            continue
        left, top, width, height = (int(value) for value in statistics[k, :4])
        part = slice(top, top + height), slice(left, left + width)
        rows, columns = np.nonzero((missing | added)[part] & (regions[part] == k))
        box = left + columns.min(), top + rows.min(), left + columns.max(), top + rows.max()
        kind = (
            "moved metal"
            if min(fewer, more) >= smallest
            else ("missing metal" if fewer > more else "added metal")
        )
        yield Difference(kind, (), tuple(map(int, box)), fewer, more)


def _via_differences(golden: np.ndarray, found: np.ndarray) -> Iterator[Difference]:
    """Yield the vias that only one of two masks has. A via has moved if it is no longer touched."""
    for kind, mine, other in (("missing via", golden, found), ("added via", found, golden)):
        regions, statistics = connected_regions(mine)
        touched = np.zeros(len(statistics), bool)
        touched[np.unique(regions[cv2.dilate(other.astype(np.uint8), np.ones((3, 3))) > 0])] = True
        for k in np.flatnonzero(~touched[1:]) + 1:
            left, top, width, height, area = (int(value) for value in statistics[k])
            if area < 4:
                continue
            counts = (area, 0) if kind == "missing via" else (0, area)
            yield Difference(kind, (), (left, top, left + width - 1, top + height - 1), *counts)


def _meet(a: tuple[int, int, int, int], fault: Fault, margin: int) -> bool:
    return (
        fault.left <= a[2] + margin and fault.right >= a[0] - margin
        and fault.top <= a[3] + margin and fault.bottom >= a[1] - margin
    )  # fmt: skip


def laid_over(golden: Side, found: Side, registration: Registration) -> Overlay:
    """Return a side as it lies over the golden one.

    Args:
      golden: the reference.
      found: is brought over it.
      registration: of the metal of `found` over that of `golden`.
    """
    masks, inside = {}, np.ones(golden.shape, bool)
    for kind, mask in found.masks.items():
        masks[kind], inside = registration.apply(mask, golden.shape)
    return Overlay(masks, inside)


def not_compared(
    golden: Side, found: Side, registration: Registration, overlay: Overlay
) -> list[str]:
    """Return a sentence for each thing that `find_differences` leaves out.

    Args:
      golden: see `laid_over`.
      found: likewise.
      registration: likewise.
      overlay: of `found`.
    """
    notes = []
    over, inside = overlay.masks["metal"], overlay.inside
    metal, mine = golden.masks["metal"], found.masks["metal"]
    # The found metal that lies over the golden image, in pixels of the golden one.
    area = abs(np.linalg.det(registration.matrix[:, :2]))
    for side, other, count, total in (
        (golden, found, np.count_nonzero(metal & ~inside), np.count_nonzero(metal)),
        (found, golden, np.count_nonzero(mine) / area - np.count_nonzero(over),
         np.count_nonzero(mine) / area),
    ):  # fmt: skip
        if count > LEFT_OUT * total:
            notes.append(
                f"{100 * count / total:.1f}% of the metal of {side.path} lies beyond what "
                f"{other.path} shows or draws, and is not compared"
            )
    for side, other in ((golden, found), (found, golden)):
        if "via" in side.masks and "via" not in other.masks and side.masks["via"].any():
            notes.append(f"vias are not compared: no mask of the vias of {other.path} was named")
    return notes


def find_differences(golden: Side, overlay: Overlay, tolerance: float = 1.5) -> list[Difference]:
    """Return the differences of two sides, those with an effect on nets first, then by size.

    Only what both show counts.

    Args:
      golden: the reference.
      overlay: the other side over it, of `laid_over`.
      tolerance: distance in pixels by which edges may differ.
    """
    masks, inside = overlay
    metal = golden.masks["metal"] & inside
    differences = list(_metal_differences(metal, masks["metal"] & inside, tolerance))
    effects: list[list[str]] = [[] for _ in differences]
    nets, wires = (Regions.of_mask(mask, 0, 0) for mask in (metal, masks["metal"] & inside))
    for fault in find_faults(nets, wires):
        name, is_explained = EFFECTS[fault.kind], False
        for k, difference in enumerate(differences):
            if _meet(difference.box, fault, 2):
                is_explained = True
                if name not in effects[k]:
                    effects[k].append(name)
        box = fault.left, fault.top, fault.right, fault.bottom
        area = (fault.right - fault.left + 1) * (fault.bottom - fault.top + 1)
        if not is_explained and fault.kind in ("opens", "shorts"):
            kind = "missing metal" if fault.kind == "opens" else "added metal"
            counts = (area, 0) if fault.kind == "opens" else (0, area)
            differences.append(Difference(kind, (), box, *counts))
            effects.append([name])
    out = [
        difference._replace(effects=tuple(names))
        for difference, names in zip(differences, effects, strict=True)
    ]
    if "via" in golden.masks and "via" in masks:
        out += _via_differences(golden.masks["via"] & inside, masks["via"] & inside)
    return sorted(out, key=lambda item: (
        not item.matters, -(item.missing + item.added), item.box,
    ))  # fmt: skip
