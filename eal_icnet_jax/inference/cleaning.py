"""Removal of small regions from masks, and filling of small holes."""

import cv2
import numpy as np

from eal_icnet_jax.imaging.regions import connected_regions
from eal_icnet_jax.system.errors import UserError

MAX_AREA = 4096
"""Largest area in pixels that can be removed or filled. A part of a mosaic is cleaned together with
a margin of that width."""


def check_areas(remove_specks: int, fill_holes: int):
    """Raise a `UserError` if an area is negative or too large."""
    for option, area in (("remove-specks", remove_specks), ("fill-holes", fill_holes)):
        if not 0 <= area <= MAX_AREA:
            raise UserError(f"--{option} is {area}: name an area of 0 to {MAX_AREA} pixels")


def clean_mask(
    mask: np.ndarray,
    remove_specks: int,
    fill_holes: int,
    cut_edges: tuple[bool, bool, bool, bool] = (False,) * 4,
) -> np.ndarray:
    """Remove the small regions of a mask, then fill its small holes.

    Args:
      mask: `[H, W]` bool.
      remove_specks: 8-connected regions of fewer pixels are removed.
      fill_holes: 4-connected holes of fewer pixels are filled. A notch in the image's edge is not a
        hole.
      cut_edges: whether the image continues above, below, left and right of the mask. Regions and
        holes at such an edge stay as they are, and the result is that of the whole image only from
        `remove_specks + fill_holes` pixels inside the edge.

    Returns:
      `[H, W]` bool.
    """
    if remove_specks > 1:
        regions, statistics = connected_regions(mask)
        mask = mask & ~_small_regions(regions, statistics, remove_specks, cut_edges)
    if fill_holes > 1:
        _, regions, statistics, _ = cv2.connectedComponentsWithStats(
            (~mask).astype(np.uint8), connectivity=4
        )
        mask = mask | _small_regions(regions, statistics, fill_holes, (True,) * 4)
    return mask


def _small_regions(
    regions: np.ndarray,
    statistics: np.ndarray,
    area: int,
    open_edges: tuple[bool, bool, bool, bool],
) -> np.ndarray:
    """Return the pixels `[H, W]` bool of regions below an area that touch no open edge."""
    small = statistics[:, cv2.CC_STAT_AREA] < area
    edges = regions[0], regions[-1], regions[:, 0], regions[:, -1]
    for edge, is_open in zip(edges, open_edges, strict=True):
        if is_open:
            small[edge] = False
    small[0] = False  # the background
    return small[regions]


Part = tuple[slice, slice]
"""Rows and columns of an image, with their ends."""


def widened(part: Part, shape: tuple[int, int], margin: int) -> Part:
    """Return a part of an image with a margin, where the image reaches so far."""
    rows, columns = (
        slice(max(0, inner.start - margin), min(length, inner.stop + margin))
        for inner, length in zip(part, shape, strict=True)
    )
    return rows, columns


def clean_inner_part(
    mask: np.ndarray,
    wide: Part,
    part: Part,
    shape: tuple[int, int],
    remove_specks: int,
    fill_holes: int,
) -> np.ndarray:
    """Return a part of the mask that `clean_mask` makes of the whole one, from a wider part.

    Args:
      mask: `[H, W]` bool, the wider part.
      wide: where it lies: `part`, `widened` by `remove_specks + fill_holes`.
      part: that is returned.
      shape: height and width of the whole mask.
      remove_specks: as for `clean_mask`.
      fill_holes: as for `clean_mask`.

    Returns:
      The part, `[h, w]` bool.
    """
    (top, left), (height, width) = (inner.start for inner in wide), shape
    cut_edges = top > 0, wide[0].stop < height, left > 0, wide[1].stop < width
    cleaned = clean_mask(mask, remove_specks, fill_holes, cut_edges)
    rows, columns = part
    return cleaned[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def clean_part(
    mask, rows: slice, columns: slice, remove_specks: int, fill_holes: int
) -> np.ndarray:
    """Return a part of the mask that `clean_mask` makes of the whole mask.

    Args:
      mask: `[H, W]`, non-zero is foreground; any object that is sliced like an array.
      rows: of the part.
      columns: of the part.
      remove_specks: as for `clean_mask`.
      fill_holes: as for `clean_mask`.

    Returns:
      The part, `[h, w]` bool.
    """
    part, shape = (rows, columns), mask.shape
    wide = widened(part, shape, remove_specks + fill_holes)
    return clean_inner_part(
        np.asarray(mask[wide]) != 0, wide, part, shape, remove_specks, fill_holes
    )
