"""What a camera and a file format do to a micrograph. Grey levels are floats from 0 to 255."""

import dataclasses

import cv2
import numpy as np
from PIL import Image

from eal_icnet_jax.datasets.ic_synthetic.fields import random_field, to_uint8
from eal_icnet_jax.datasets.ic_synthetic.geometry import Range, log_uniform
from eal_icnet_jax.imaging.jpeg import through_jpeg


@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraRanges:
    """Ranges from which each image draws its camera. Fractions are of the images.

    Attributes:
      blur: standard deviation of the blur relative to the wire's width; its square root is uniform.
      least_blur: smallest standard deviation of the blur in pixels.
      noise: standard deviation of the noise relative to the image's contrast; its square root is
        uniform.
      noise_grain: correlation length of the noise in pixels.
      demosaiced: fraction of colour images whose pixels had one colour each (a Bayer pattern).
      resampled: fraction that was enlarged or shrunk.
      resampling: factor by which the image was smaller before.
      sharpened: fraction with the halos of an unsharp mask.
      sharpening: amount of the unsharp mask.
      contrast: part of all grey levels that the image covers.
      full_contrast: fraction that covers all grey levels.
      gamma: exponent of the grey levels.
      compressed: fraction that went through JPEG.
      quality: of the JPEG.
      palettes: fraction of colour images with a palette of 128 colours.
    """

    blur: Range = (0, 0.3)
    least_blur: float = 0.4
    noise: Range = (0, 0.12)
    noise_grain: Range = (0.3, 1.5)
    demosaiced: float = 0.3
    resampled: float = 0.4
    resampling: Range = (0.45, 0.95)
    sharpened: float = 0.4
    sharpening: Range = (0.3, 2)
    contrast: Range = (0.05, 1)
    full_contrast: float = 0.6
    gamma: Range = (0.6, 1.6)
    compressed: float = 0.7
    quality: tuple[int, int] = (30, 96)
    palettes: float = 0.05


def blurred(
    rng: np.random.Generator, image: np.ndarray, wire_width: float, ranges: CameraRanges
) -> np.ndarray:
    """Return the image out of focus."""
    sigma = wire_width * rng.uniform(*np.sqrt(ranges.blur)) ** 2
    return cv2.GaussianBlur(image, (0, 0), max(sigma, ranges.least_blur))


def _demosaiced(image: np.ndarray) -> np.ndarray:
    """Return an RGB image as a camera interpolates it from pixels of one colour each."""
    levels = to_uint8(image)
    pattern = levels[..., 1].copy()
    pattern[::2, ::2], pattern[1::2, 1::2] = levels[::2, ::2, 0], levels[1::2, 1::2, 2]
    return cv2.cvtColor(pattern, cv2.COLOR_BayerBG2RGB).astype(np.float32)


def _resampled(rng: np.random.Generator, image: np.ndarray, factor: float) -> np.ndarray:
    size = image.shape[1], image.shape[0]
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    method = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]))
    return cv2.resize(small, size, interpolation=method)


def _with_contrast(rng: np.random.Generator, image: np.ndarray, ranges: CameraRanges) -> np.ndarray:
    """Return the image with the grey levels of its camera's exposure."""
    low, high = np.percentile(image, (0.5, 99.5))
    image = np.clip((image - low) / max(high - low, 1), 0, 1.3) ** rng.uniform(*ranges.gamma)
    if rng.random() < ranges.full_contrast:
        span = rng.uniform(0.6, 1)
    else:
        span = log_uniform(rng, ranges.contrast)
    return 255 * (image * span + rng.uniform(0, 1 - span))


def with_noise(
    rng: np.random.Generator, image: np.ndarray, contrast: float, ranges: CameraRanges
) -> np.ndarray:
    """Return the image with noise, which may be correlated between pixels.

    Args:
      contrast: to which the noise is relative.
    """
    noise = rng.standard_normal(image.shape, np.float32)
    grain = rng.uniform(*ranges.noise_grain)
    if grain > 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), grain - 0.2)
        noise /= noise.std()
    low, high = ranges.noise
    return image + noise * contrast * (low + (high - low) * rng.random() ** 2)


def photographed(
    rng: np.random.Generator, image: np.ndarray, wire_width: float, ranges: CameraRanges
) -> np.ndarray:
    """Return what a camera and its file make of an image.

    Args:
      rng: random numbers of this image.
      image: `[size, size]` or RGB `[size, size, 3]` float.
      wire_width: in pixels.
      ranges: of the camera.

    Returns:
      uint8 of the same shape.
    """
    image = blurred(rng, image.astype(np.float32), wire_width, ranges)
    is_colour = image.ndim == 3
    contrast = float(np.subtract(*np.percentile(image, (95, 5))))
    image = with_noise(rng, image, contrast, ranges)
    if is_colour and rng.random() < ranges.demosaiced:
        image = _demosaiced(image)
    if rng.random() < ranges.resampled and wire_width > 6:
        image = _resampled(rng, image, rng.uniform(*ranges.resampling))
    if rng.random() < ranges.sharpened:
        smooth = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 2.5))
        image = image + rng.uniform(*ranges.sharpening) * (image - smooth)
    light = 1 + rng.uniform(0, 0.12) * random_field(rng, len(image), len(image) / 2)
    image = image * (light[..., None] if is_colour else light)
    levels = to_uint8(_with_contrast(rng, image, ranges))
    if rng.random() < ranges.compressed:
        levels = through_jpeg(levels, int(rng.integers(*ranges.quality)))
    if is_colour and rng.random() < ranges.palettes:
        levels = np.asarray(Image.fromarray(levels).quantize(128).convert("RGB"))
    return levels
