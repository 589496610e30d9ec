"""What drawn micrographs are put together from: random fields, specks, lines, colours."""

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


def band(distance: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Return a line along an edge, 1 in its middle: a Gaussian of the distance to the edge.

    Args:
      distance: to the edge in pixels.
      centre: distance of the line's middle.
      width: standard deviation in pixels.
    """
    return np.exp(-0.5 * ((distance - centre) / width) ** 2)


def with_lateral_colour(rng: np.random.Generator, image: np.ndarray, largest: float) -> np.ndarray:
    """Return an RGB image whose red and blue are shifted against each other.

    Args:
      rng: draws the shifts.
      image: `[size, size, 3]` float32, is changed.
      largest: largest shift in pixels along each axis.
    """
    size = image.shape[1], image.shape[0]
    for channel, sign in ((0, 1), (2, -1)):
        dx, dy = sign * rng.uniform(-largest, largest, 2)
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        image[..., channel] = cv2.warpAffine(
            image[..., channel], shift, size, borderMode=cv2.BORDER_REPLICATE
        )
    return image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return grey levels from 0 to 255 as uint8."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
