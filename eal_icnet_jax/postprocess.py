"""Specks removed and pinholes filled, off unless asked for."""

import cv2
import numpy as np

from eal_icnet_jax.electrical import connected
from eal_icnet_jax.errors import UserError

LARGEST = 4096
"""Area in pixels up to which they may be removed: so far around a pixel one has to look."""


def check(specks: int, holes: int):
    """Raises a `UserError` where an area makes no sense."""
    for name, area in (("remove-specks", specks), ("fill-holes", holes)):
        if not 0 <= area <= LARGEST:
            raise UserError(f"--{name} is {area}: name an area of 0 to {LARGEST} pixels")


def cleaned(
    mask: np.ndarray, specks: int, holes: int, cut: tuple[bool, bool, bool, bool] = (False,) * 4
) -> np.ndarray:
    """A mask without small regions, and then without small holes.

    Args:
      mask: `[H, W]` bool.
      specks: 8-connected regions of fewer pixels are removed.
      holes: 4-connected holes of fewer pixels are filled; one at the image's edge is none.
      cut: whether the image goes on above, below, left and right. There, what reaches the edge
        stays as it is; the result holds for pixels at least `specks + holes` off such an edge.

    Returns:
      `[H, W]` bool.
    """
    if specks > 1:
        image, found = connected(mask)
        small = found[:, cv2.CC_STAT_AREA] < specks
        small[_at_edges(image, cut)] = False
        small[0] = False
        mask = mask & ~small[image]
    if holes > 1:
        _, image, found, _ = cv2.connectedComponentsWithStats(
            (~mask).astype(np.uint8), connectivity=4
        )
        small = found[:, cv2.CC_STAT_AREA] < holes
        small[_at_edges(image, (True,) * 4)] = False
        small[0] = False
        mask = mask | small[image]
    return mask


def _at_edges(regions: np.ndarray, edges: tuple[bool, bool, bool, bool]) -> np.ndarray:
    lines = regions[0], regions[-1], regions[:, 0], regions[:, -1]
    chosen = [line for line, edge in zip(lines, edges, strict=True) if edge]
    return np.unique(np.concatenate(chosen)) if chosen else np.empty(0, int)


def cleaned_part(mask, rows: slice, columns: slice, specks: int, holes: int) -> np.ndarray:
    """A part of a mask as it is in the whole mask cleaned.

    Args:
      mask: `[H, W]`, non-zero is foreground; anything that slices like an array.
      rows, columns: of the part.
      specks, holes: as for `cleaned`.
    """
    reach = specks + holes
    height, width = mask.shape
    top, bottom = max(0, rows.start - reach), min(height, rows.stop + reach)
    left, right = max(0, columns.start - reach), min(width, columns.stop + reach)
    part = np.asarray(mask[top:bottom, left:right]) != 0
    out = cleaned(part, specks, holes, (top > 0, bottom < height, left > 0, right < width))
    return out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
