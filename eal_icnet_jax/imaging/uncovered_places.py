"""Places of an image that no photograph covers, as beyond the tiles of a mosaic: they are black.

A network that sees them takes their border for an edge. So it sees the photograph mirrored there,
and finds nothing there.
"""

import cv2
import numpy as np

SMALLEST = 5
"""Side in pixels of the smallest square without any light that no photograph covers."""

LARGE = 64
"""Side in pixels of a black square that is no shadow. Smaller places lie at the image's border."""


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


def uncovered_places(
    part: np.ndarray, corner: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Return the pixels `[h, w]` bool of a part of an image that no photograph covers.

    They are black, and either form a large square or touch the image's border. Dark shadows of a
    photograph do neither.

    Args:
      part: `[h, w]` or RGB `[h, w, 3]`.
      corner: row and column of its first pixel.
      shape: height and width of the image.
    """
    black = black_squares(part)
    if not black.any():
        return black
    _, regions = cv2.connectedComponents(black.astype(np.uint8), connectivity=4)
    marked = _opened(black, LARGE)
    for axis, index in enumerate((np.s_[:1], np.s_[:, :1])):
        marked[index] |= corner[axis] == 0
    for axis, index in enumerate((np.s_[-1:], np.s_[:, -1:])):
        marked[index] |= corner[axis] + part.shape[axis] == shape[axis]
    found = np.zeros(int(regions.max()) + 1, bool)
    found[np.unique(regions[marked & black])] = True
    return found[regions]


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
