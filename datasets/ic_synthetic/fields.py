"""What drawn micrographs are put together from: random fields, specks, blending, JPEG."""

import cv2
import numpy as np


def random_field(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Return a smooth random field `[size, size]` of mean 0 and standard deviation 1.

    Args:
      scale: correlation length in pixels.
    """
    step = max(1, int(scale / 2))
    coarse = rng.standard_normal((size // step + 9, size // step + 9)).astype(np.float32)
    smooth = cv2.GaussianBlur(coarse, (0, 0), max(scale / step, 0.3))
    smooth = cv2.resize(smooth[4:-4, 4:-4], (size, size), interpolation=cv2.INTER_CUBIC)
    return (smooth - smooth.mean()) / (smooth.std() + 1e-6)


def specks(
    rng: np.random.Generator, size: int, count: int, radius: tuple[float, float]
) -> np.ndarray:
    """Return soft irregular blobs `[size, size]`, from 0 to 1.

    Args:
      radius: range of the radii in pixels.
    """
    out = np.zeros((size, size), np.float32)
    for _ in range(count):
        x, y = rng.integers(0, size, 2)
        r = rng.uniform(*radius)
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        radii = r * rng.lognormal(0, 0.35, 14)
        points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], 1)
        cv2.fillPoly(out, [np.rint(points).astype(np.int32)], float(rng.uniform(0.3, 1)))
    return cv2.GaussianBlur(out, (0, 0), 0.8)


def blend(image: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return an image with a colour laid over it.

    Args:
      image: `[size, size, 3]`.
      colour: `[3]`, or an image.
      weight: opacity of the colour, `[size, size]`.
    """
    return image + weight[..., None] * (colour - image)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return grey levels from 0 to 255 as uint8."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image as a JPEG of this quality, from 0 to 100, stores it."""
    encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    return cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
