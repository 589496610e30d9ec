"""Places of an image that no photograph covers, as beyond the tiles of a mosaic: they are black.

A network that sees them takes their border for an edge. So it sees the photograph mirrored there,
and finds nothing there.
"""

import cv2
import numpy as np

SMALLEST = 5
"""Side in pixels of the smallest black square inside an image that is no noise."""

LARGE = 63
"""Side in pixels of a black square that is no shadow. It is also the width of the frame along an
image's border in which smaller places that touch the border are uncovered, too."""


def black_squares(part: np.ndarray) -> np.ndarray:
    """Return the pixels `[H, W]` bool in squares without any light.

    Args:
      part: of an image, `[H, W]` or RGB `[H, W, 3]`.
    """
    black = (part == 0) if part.ndim == 2 else (part == 0).all(-1)
    return _opened(black, SMALLEST) if black.any() else black


def _opened(mask: np.ndarray, side: int) -> np.ndarray:
    """Return the pixels in squares of a mask; beyond its border squares go on."""
    kernel = np.ones((side, side), np.uint8)
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0


def uncovered_places(image, rows: slice, columns: slice) -> np.ndarray:
    """Return the pixels `[h, w]` bool of a part of an image that no photograph covers.

    They are black, and lie in a square of `LARGE` pixels, or in a place that touches the image's
    border and is that near to it. Dark shadows of a photograph rarely do either. `LARGE` pixels
    around the part are read, too, so that a pixel's answer does not depend on the part.

    Args:
      image: with a `shape`; indexing it with slices, `image[rows, columns]`, reads that part.
      rows: of the part.
      columns: of it.
    """
    height, width = image.shape
    top, left = max(0, rows.start - LARGE), max(0, columns.start - LARGE)
    bottom, right = min(height, rows.stop + LARGE), min(width, columns.stop + LARGE)
    black = black_squares(image[top:bottom, left:right])
    found = _opened(black, LARGE)
    y, x = np.arange(top, bottom), np.arange(left, right)
    near = [
        (places < LARGE) | (places >= length - LARGE)
        for places, length in ((y, height), (x, width))
    ]
    frame = black & (near[0][:, None] | near[1])
    _, regions = cv2.connectedComponents(frame.astype(np.uint8), connectivity=4)
    touches = np.zeros(int(regions.max()) + 1, bool)
    touches[np.unique(regions[(y == 0) | (y == height - 1)])] = True
    touches[np.unique(regions[:, (x == 0) | (x == width - 1)])] = True
    touches[0] = False
    found |= touches[regions]
    return found[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def mirrored_into(part: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return a part of an image with its surroundings mirrored into places.

    Where the mirrored pixel would lie in a place too, or beyond the part, it is the nearest pixel.

    Args:
      part: `[h, w]` or `[h, w, C]`.
      places: `[h, w]` bool. If all of it is to be filled, it stays as it is.
    """
    if places.all():
        return part
    _, numbers = cv2.distanceTransformWithLabels(
        places.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    covered = np.argwhere(~places)
    nearest = np.zeros((int(numbers.max()) + 1, 2), int)
    nearest[numbers[~places]] = covered
    here = np.argwhere(places)
    edge = nearest[numbers[places]]
    beyond, last = 2 * edge - here, np.array(places.shape) - 1
    inside = np.clip(beyond, 0, last)
    is_covered = (beyond == inside).all(1) & ~places[tuple(inside.T)]
    source = np.where(is_covered[:, None], beyond, edge)
    out = part.copy()
    out[places] = part[tuple(source.T)]
    return out
