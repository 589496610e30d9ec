"""Magnification of images to the width of the wires that a network was trained for."""

import dataclasses
import itertools

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
trained on crops of no certain size."""

SAMPLES = 3
"""Number of such squares down and across at each magnification."""

SMOOTHING = 2.0
"""Standard deviation in pixels, once magnified, of the blur before widths are measured."""

TOLERANCE = 1.3
"""Factors up to this one, or its inverse, are left alone: the network is trained for them too."""

AGREEMENT, REACH = 0.8, 1.2
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
    """

    factor: float = 1.0
    note: str = ""


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


def _sample_places(length: int, side: int) -> np.ndarray:
    """Return the first pixels of up to `SAMPLES` stretches that lie evenly along an axis."""
    count = min(SAMPLES, max(1, length // side))
    return np.unique(np.linspace(0, length - side, count + 2)[1:-1].round().astype(int))


@dataclasses.dataclass(frozen=True)
class _Finding:
    """What a network sees at one magnification.

    widths: of the wires in pixels of the image.
    certainty: mean of `|2p - 1|` over all pixels, from 0 to 1.
    """

    widths: np.ndarray
    certainty: float


def _look(
    mosaic: Mosaic, predict: Predict, channels: int, scale: float, sample: int, smallest: int
) -> _Finding | None:
    """Return what the network sees in some squares of an image at a magnification.

    Args:
      sample: side of the squares in pixels, once magnified.
      smallest: least side of an image that the network takes.
    """
    side = min(round(sample / scale), *mosaic.shape)
    if round(side * scale) < smallest:
        return None
    size = sample if side < min(mosaic.shape) else min(sample, round(side * scale))
    # Small images are mirrored up to one size, so that the network is compiled once.
    margins = ((0, sample - size),) * 2
    widths, certainties = [], []
    places = (_sample_places(length, side) for length in mosaic.shape)
    for top, left in itertools.product(*places):
        part = mosaic[top : top + side, left : left + side]
        image = resized(pixel_values.to_unit_range(part, channels)[None], (size, size))
        squares = np.pad(image, ((0, 0), *margins, (0, 0)), "symmetric")
        metal = predict(squares)[0, :size, :size, 0]
        certainties.append(np.mean(np.abs(2 * metal - 1)))
        smooth = cv2.GaussianBlur(metal, (0, 0), SMOOTHING)  # specks and pinholes are no wires
        widths.append(wire_widths(smooth >= 0.5) / scale)
    return _Finding(np.concatenate(widths), float(np.mean(certainties)))


def _width_by_agreement(findings: dict[float, _Finding], wire_width: float) -> float:
    """Return the width of wires on which neighbouring magnifications agree best, in pixels.

    Where an image is too small, a network takes whatever has about the width that it knows for
    wires, so that the width that it finds halves with every doubling. Where it sees the wires
    themselves, the width stays.

    Args:
      findings: by magnification; each has widths.
      wire_width: that the network was trained for, in pixels.
    """
    widths = {scale: float(np.median(finding.widths)) for scale, finding in findings.items()}
    best, best_weight = widths[max(widths)], 0.0
    for scale, finer in itertools.pairwise(sorted(widths)):
        octaves = np.log2(widths[scale] / widths[finer])
        width = float(np.sqrt(widths[scale] * widths[finer]))
        mismatch = np.log2(width * np.sqrt(scale * finer) / wire_width)
        certainty = findings[scale].certainty * findings[finer].certainty
        weight = certainty * np.exp(-0.5 * ((octaves / AGREEMENT) ** 2 + (mismatch / REACH) ** 2))
        if weight > best_weight:
            best, best_weight = width, weight
    return best


def find_scale(
    mosaic: Mosaic, predict: Predict, channels: int, preprocessing: Preprocessing, smallest: int
) -> Scale:
    """Return the magnification at which an image's wires have the width that a network knows.

    The network looks at some parts of the image at several magnifications, and measures the width
    of the wires that it finds.

    Args:
      mosaic: the image.
      predict: the network's prediction; the first class is metal.
      channels: of the images that it takes.
      preprocessing: its width of wires, and the size of the crops that it was trained on.
      smallest: least height and width of an image that it takes, in pixels.
    """
    findings = {}
    for scale in SCALES:
        sample = preprocessing.crop_size or SAMPLE
        finding = _look(mosaic, predict, channels, scale, sample, smallest)
        if finding is not None and len(finding.widths):
            findings[scale] = finding
    if not findings:
        return Scale(1.0, "no wires were found to measure, so the image keeps its size")
    width = _width_by_agreement(findings, preprocessing.wire_width)
    factor = preprocessing.wire_width / width
    text = f"its wires are about {width:.3g} pixels wide"
    if 1 / TOLERANCE <= factor <= TOLERANCE:
        return Scale(1.0, f"{text}, which suits the network: --scale=1")
    factor = float(np.clip(factor, SCALES[0], SCALES[-1]))
    return Scale(factor, f"{text}, so it is magnified by {factor:.3g} for the network")
