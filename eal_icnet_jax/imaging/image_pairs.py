"""Squares of two images of one place, read from mosaics of any size at any reduction."""

import functools
from collections.abc import Callable

import cv2
import numpy as np

from eal_icnet_jax.imaging.layer_features import Feature, depth_feature, edge_feature
from eal_icnet_jax.imaging.mosaics import Mosaic

Map = Callable[[np.ndarray], np.ndarray]
"""From points (x, y) `[N, 2]` of a reference to those of another image."""

SAMPLES, SAMPLE_SIDE = 4, 384
"""Number, down and across, and side of the squares from which an image is judged."""

MOST_VALUES = 16
"""Largest number of values of an image that is drawn."""

DEPTHS = ("depth", "depth")
"""Instead of edges, how deep inside of two masks their pixels lie."""

LARGEST_STRETCH = 4
"""Largest side of what a square shows of the other image, relative to its own."""


def grey_level(value: float, dtype: np.dtype) -> float:
    """Return the level of 0 to 255 of a value of 8 or 16 bits."""
    return value / 257 if dtype == np.uint16 else float(value)


def grey_square(image: Mosaic, left: int, top: int, side: int, level: int) -> np.ndarray | None:
    """Return a reduced square of an image, or None if it lies beyond the image.

    What lies beyond the border repeats it.

    Args:
      image: that is read.
      left: column of its corner.
      top: row of its corner.
      side: of the result in pixels.
      level: factor by which the image is reduced.

    Returns:
      `[side, side]` float32 of 0 to 255.
    """
    length = side * level
    height, width = image.shape
    rows = slice(*np.clip((top, top + length), 0, height))
    columns = slice(*np.clip((left, left + length), 0, width))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return None
    pixels = image[rows, columns]
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    grey = pixels.astype(np.float32) * np.float32(grey_level(1, pixels.dtype))
    grey = cv2.copyMakeBorder(
        grey, rows.start - top, top + length - rows.stop, columns.start - left,
        left + length - columns.stop, cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)


def sample_squares(image: Mosaic, level: int) -> list[np.ndarray]:
    """Return some reduced squares spread over an image."""
    side = min(SAMPLE_SIDE, max(1, min(image.shape) // level))
    places = [np.linspace(0, length - side * level, SAMPLES).astype(int) for length in image.shape]
    squares = [
        grey_square(image, int(x), int(y), side, level) for y in places[0] for x in places[1]
    ]
    return [square for square in squares if square is not None]


def _sampled_values(image: Mosaic) -> list[int]:
    """Return the values of an image in some small squares spread over it."""
    height, width = image.shape
    parts = [
        image[slice(int(y), int(y) + 64), slice(int(x), int(x) + 64)]
        for y in np.linspace(0, max(height - 64, 0), SAMPLES)
        for x in np.linspace(0, max(width - 64, 0), SAMPLES)
    ]
    return np.unique(np.concatenate([part.ravel() for part in parts])).tolist()


def white_of_mask(image: Mosaic) -> int | None:
    """Return the value of a grey image that has only that one and 0, or None if it has others."""
    values = _sampled_values(image)
    is_grey = image[:1, :1].ndim == 2
    return values[1] if is_grey and len(values) == 2 and values[0] == 0 else None


def has_few_values(image: Mosaic) -> bool:
    """Return whether an image is drawn, as a mask or classes are, not photographed."""
    return len(_sampled_values(image)) <= MOST_VALUES


class ImagePair:
    """A reference and an image that lies over it somehow."""

    def __init__(self, reference: Mosaic, moving: Mosaic):
        self.reference, self.moving = reference, moving
        self._white = [white_of_mask(image) for image in (reference, moving)]
        self.are_masks = None not in self._white

    def size_ratio(self) -> float:
        """Return how many pixels of the other image one of the reference shows, by their widths.

        It is 1 if one of the files does not state the size of its pixels.
        """
        sizes = [image.pixel_size for image in (self.reference, self.moving)]
        return sizes[0][1] / sizes[1][1] if sizes[0] and sizes[1] else 1.0

    @functools.lru_cache(32)  # noqa: B019 (a pair lives as long as its alignment)
    def features(self, level: int, parts: tuple[str, str]) -> tuple[Feature, Feature]:
        """Return what is compared of the reference and of the other image at a reduction.

        Args:
          level: factor by which both are reduced.
          parts: which edges of each count, or `DEPTHS`.
        """
        if parts == DEPTHS:
            images = self.reference, self.moving
            first, second = (
                functools.partial(depth_feature, white=grey_level(white, image.dtype))
                for image, white in zip(images, self._white, strict=True)
            )
            return first, second
        first, second = (
            edge_feature(sample_squares(image, level), part)
            for image, part in zip((self.reference, self.moving), parts, strict=True)
        )
        return first, second

    def reference_square(self, corner: np.ndarray, side: int, level: int) -> np.ndarray | None:
        """Return a reduced square of the reference, as `grey_square` does."""
        left, top = np.rint(corner).astype(int)
        return grey_square(self.reference, left, top, side, level)

    def moved_square(
        self, mapped: Map, corner: np.ndarray, side: int, level: int
    ) -> np.ndarray | None:
        """Return a reduced square of the other image as it lies over the reference, or None.

        Args:
          mapped: where points of the reference lie in the other image.
          corner: (x, y) in the reference.
          side: of the result in pixels.
          level: factor of reduction.
        """
        step = max(side // 8, 1)
        nodes = np.arange(-step, side + 2 * step, step)
        grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
        # Pixel k of a reduced square shows the pixels around (k + 1/2) level - 1/2.
        target = mapped((grid + 0.5) * level - 0.5 + np.rint(corner))
        low, high = target.min(0) - 2 * level, target.max(0) + 2 * level
        length = int(np.ceil((high - low).max() / level)) + 1
        if length > LARGEST_STRETCH * side:
            return None
        left, top = np.rint(low).astype(int)
        pixels = grey_square(self.moving, left, top, length, level)
        if pixels is None:
            return None
        places = ((target - (left, top) + 0.5) / level - 0.5).astype(np.float32)
        dense = between_nodes(places.reshape(len(nodes), len(nodes), 2), step, (side, side))
        return cv2.remap(pixels, dense, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def between_nodes(values: np.ndarray, step: int, shape: tuple[int, int]) -> np.ndarray:
    """Return values at all pixels from those at every `step`-th one, `[H, W, 2]` float32.

    Args:
      values: `[h, w, 2]` float32, at the pixels -`step`, 0, `step` and so on.
      step: between nodes.
      shape: height and width of the result.
    """
    y, x = ((np.arange(length, dtype=np.float32) + step) / step for length in shape)
    return cv2.remap(values, *np.meshgrid(x, y), cv2.INTER_LINEAR)
