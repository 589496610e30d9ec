"""Magnification of images to the width of the wires that a network was trained for."""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import cv2
import numpy as np

from eal_icnet_jax.imaging import pixel_values
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.wire_width import wire_widths
from eal_icnet_jax.inference.views import Predict
from eal_icnet_jax.models.registry import Preprocessing
from eal_icnet_jax.system.errors import UserError

SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Magnifications at which wires are looked for."""

SAMPLE = 320
"""Side in pixels, once magnified, of the squares in which wires are looked for, if the network was
trained on crops of no certain size. No side exceeds twice this one, for the sake of memory."""

SAMPLES = 3
"""Number of points down and across around which such squares lie, at every magnification."""

SMOOTHING = 2.0
"""Standard deviation in pixels, once magnified, of the blur before widths are measured."""

TOLERANCE = 1.3
"""Factors up to this one, or its inverse, are left alone: the network is trained for them too."""

SHRINKING = 0.75
"""Power of a factor below 1 that is used. Wide wires in a sharp photograph lie over the traces of
lower layers, which vanish if it is shrunk by the whole factor; in a blurred one hardly anything is
lost. Chosen by benchmarks/shrinking.py."""

SPREAD, REACH = 1.6, 1.2
"""Standard deviations in octaves: of the widths at neighbouring magnifications, and of the width of
the wires there from the one that the network was trained for. Chosen on drawn images."""

LARGEST_FACTOR = 16
"""Bound of a factor that a user names, and of its inverse."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much images are magnified before prediction.

    Attributes:
      factor: magnification; below 1 they are shrunk.
      note: how it was found, for the user; empty if there is nothing to say.
      wire_width: of the image in pixels, if that is not the network's over the factor.
    """

    factor: float = 1.0
    note: str = ""
    wire_width: float | None = None


def check_scale(scale: float | str):
    """Raise a `UserError` if a scale is neither "auto" nor a sensible factor."""
    if scale == "auto":
        return
    if not isinstance(scale, float | int) or not 1 / LARGEST_FACTOR <= scale <= LARGEST_FACTOR:
        raise UserError(
            f"--scale is {scale}: name auto, or a factor from 1/{LARGEST_FACTOR} to "
            f"{LARGEST_FACTOR}"
        )


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images `[B, H, W, C]` resized to a height and width: averaged if they are shrunk."""
    height, width = size
    if images.shape[1:3] == (height, width):
        return images
    shrinks = height < images.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    out = [cv2.resize(image, (width, height), interpolation=method) for image in images]
    return np.clip(np.stack(out).reshape(len(images), height, width, -1), 0, 1)


def at_scale(predict: Predict, factor: float, smallest: int, crop_size: int = 0) -> Predict:
    """Return a prediction that magnifies images first, and shrinks the probabilities again.

    Args:
      predict: of magnified images.
      factor: magnification.
      smallest: least height and width of an image that it takes, in pixels.
      crop_size: side in pixels, once magnified, that windows have whatever is rounded, so that one
        program predicts them at every magnification; 0 for none.
    """
    if factor == 1:
        return predict

    def magnified(length: int) -> int:
        if crop_size and length == round(crop_size / factor):
            return crop_size
        return max(smallest, round(length * factor))

    def scaled(images: np.ndarray) -> np.ndarray:
        size = magnified(images.shape[1]), magnified(images.shape[2])
        return resized(predict(resized(images, size)), images.shape[1:3])

    return scaled


class _Sight(NamedTuple):
    """What a network sees in a square of an image at a magnification.

    top, left, side: of the square in pixels of the image.
    metal: probabilities `[s, s]` in the magnified square.
    """

    top: int
    left: int
    side: int
    metal: np.ndarray

    def part(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """Return the probabilities in a rectangle of the image."""
        scale = len(self.metal) / self.side
        rows = slice(int((top - self.top) * scale), int((bottom - self.top) * scale))
        columns = slice(int((left - self.left) * scale), int((right - self.left) * scale))
        return self.metal[rows, columns]


def _look(
    mosaic: Mosaic, predict: Predict, channels: int, scale: float, sample: int, smallest: int
) -> list[_Sight]:
    """Return what the network sees around some points of an image at a magnification.

    The points are the same at every magnification. Nothing is returned if the image is too small.

    Args:
      sample: side of the squares in pixels, once magnified.
      smallest: least side of an image that the network takes.
    """
    side = min(round(sample / scale), *mosaic.shape)
    if round(side * scale) < smallest:
        return []
    size = sample if side < min(mosaic.shape) else min(sample, round(side * scale))

    @functools.cache  # the squares of a small image are all the same
    def sight(top: int, left: int) -> _Sight:
        part = mosaic[top : top + side, left : left + side]
        image = resized(pixel_values.to_unit_range(part, channels)[None], (size, size))
        # Small images are mirrored up to one size, so that the network is compiled once.
        margins = ((0, 0), *((0, sample - size),) * 2, (0, 0))
        metal = predict(np.pad(image, margins, "symmetric"))[0, :size, :size, 0]
        return _Sight(top, left, side, metal)

    def starts(length: int) -> np.ndarray:
        centres = np.linspace(0, length, SAMPLES + 2)[1:-1]
        return np.clip(centres - side / 2, 0, length - side).astype(int)

    points = itertools.product(*map(enumerate, map(starts, mosaic.shape)))
    # In a small image, the corners and the middle show enough, for half of the time.
    every = 2 if max(mosaic.shape) <= 2 * sample else 1
    return [sight(top, left) for (i, top), (j, left) in points if (i + j) % every == 0]


def _median_width(sights: list[_Sight]) -> float:
    """Return the median width in pixels of the image of the wires that are seen; 0 if none are."""
    found = []
    for sight in sights:
        smooth = cv2.GaussianBlur(
            sight.metal, (0, 0), SMOOTHING
        )  # specks and pinholes are no wires
        found.append(wire_widths(smooth >= 0.5) * (sight.side / len(smooth)))
    widths = np.concatenate(found)
    return float(np.median(widths)) if len(widths) else 0.0


def _agreement(coarse: list[_Sight], fine: list[_Sight]) -> float:
    """Return Cohen's kappa of the masks at two magnifications, where both look.

    It is 1 if they are the same, and 0 if they have no more in common than chance gives.
    """
    pairs = []
    for low, high in zip(coarse, fine, strict=True):
        top, left = max(low.top, high.top), max(low.left, high.left)
        bottom = min(low.top + low.side, high.top + high.side)
        right = min(low.left + low.side, high.left + high.side)
        seen = low.part(top, left, bottom, right)
        finer = high.part(top, left, bottom, right)
        finer = cv2.resize(finer, seen.shape[::-1], interpolation=cv2.INTER_AREA)
        pairs.append(np.stack([seen.ravel(), finer.ravel()]) >= 0.5)
    first, second = np.concatenate(pairs, axis=1)
    shares = first.mean(), second.mean()
    by_chance = shares[0] * shares[1] + (1 - shares[0]) * (1 - shares[1])
    return float((np.mean(first == second) - by_chance) / max(1 - by_chance, 1e-6))


class _Seen(NamedTuple):
    """What a network sees of an image at a magnification, where it sees wires.

    width: median width of the wires, in pixels of the image.
    sights: in its parts, the same parts at every magnification.
    """

    scale: float
    width: float
    sights: list[_Sight]


class _Found(NamedTuple):
    """A width of wires in pixels of the image, 0 if none are seen, and how well it is supported."""

    width: float
    support: float = 0.0


def _likelihood(octaves: float, mismatch: float) -> float:
    """Return how likely two neighbouring magnifications show the wires themselves.

    Args:
      octaves: by how much the width at the coarser one is larger.
      mismatch: octaves from the width that the network was trained for to theirs, once magnified.
    """
    return float(np.exp(-0.5 * ((octaves / SPREAD) ** 2 + (mismatch / REACH) ** 2)))


def _width_of(coarse: _Seen, fine: _Seen, wire_width: float) -> _Found:
    """Return the width of wires at two neighbouring magnifications, supported if they agree.

    Where an image is too small, a network takes whatever has about the width that it knows for
    wires, so that the width that it finds halves with every doubling, and the masks differ. Where
    it sees the wires themselves, mask and width stay.
    """
    octaves = np.log2(coarse.width / fine.width)
    width = float(np.sqrt(coarse.width * fine.width))
    mismatch = np.log2(width * np.sqrt(coarse.scale * fine.scale) / wire_width)
    agreement = _agreement(coarse.sights, fine.sights)
    return _Found(width, max(0.0, agreement * _likelihood(octaves, mismatch)))


def _largest_support(coarse: _Seen, scale: float, wire_width: float) -> float:
    """Return how well `_width_of` can be supported at most, whatever a finer scale shows."""
    mismatch = np.log2(coarse.width * np.sqrt(coarse.scale * scale) / wire_width)
    # Of all widths that the finer one may show, the one so many octaves below is the likeliest.
    octaves = 0.5 * mismatch * SPREAD**2 / (REACH**2 + 0.25 * SPREAD**2)
    return _likelihood(octaves, mismatch - octaves / 2)


def find_scale(
    mosaic: Mosaic, predict: Predict, channels: int, preprocessing: Preprocessing, smallest: int
) -> Scale:
    """Return the magnification that brings an image's wires to the width that a network knows.

    Wider wires are brought there by a part of the way, see `SHRINKING`. The network looks at some
    parts of the image at several magnifications, and measures the width of the wires that it finds.
    It looks at the finest one only if that may change the result.

    Args:
      mosaic: the image.
      predict: the network's prediction; the first class is metal.
      channels: of the images that it takes.
      preprocessing: its width of wires, and the size of the crops that it was trained on.
      smallest: least height and width of an image that it takes, in pixels.
    """
    wire_width = preprocessing.wire_width
    sample = min(preprocessing.crop_size, 2 * SAMPLE) or SAMPLE
    coarse, best = None, _Found(0.0)
    for scale in SCALES:
        is_last = scale == SCALES[-1]
        if coarse and is_last and _largest_support(coarse, scale, wire_width) <= best.support:
            break
        sights = _look(mosaic, predict, channels, scale, sample, smallest)
        width = _median_width(sights) if sights else 0.0
        if not width:
            continue
        fine = _Seen(scale, width, sights)
        found = _width_of(coarse, fine, wire_width) if coarse else _Found(width)
        if found.support > best.support:
            best = found
        elif not best.support:
            best = _Found(width)
        coarse = fine
    if not best.width:
        return Scale(1.0, "no wires were found to measure, so the image keeps its size")
    factor = wire_width / best.width
    text = f"its wires are about {best.width:.3g} pixels wide"
    if 1 / TOLERANCE <= factor <= TOLERANCE:
        return Scale(1.0, f"{text}, which suits the network: --scale=1")
    factor = float(np.clip(factor, SCALES[0], SCALES[-1]))
    width = wire_width / factor
    factor **= SHRINKING if factor < 1 else 1.0
    return Scale(factor, f"{text}, so it is magnified by {factor:.3g} for the network", width)
