"""The typical width of the wires in a mask."""

import cv2
import numpy as np


def wire_widths(mask: np.ndarray) -> np.ndarray:
    """Return the width in pixels at each pixel in the middle of a wire, `[N]`.

    It is twice the distance to the background. Pixels near the border are left out, where a wire
    may be cut off.

    Args:
      mask: `[H, W]`, non-zero is metal.
    """
    inside = np.asarray(mask != 0, np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    is_middle = (inside > 0) & (distance >= cv2.dilate(distance, np.ones((3, 3))))
    rows, columns = np.nonzero(is_middle)
    reach = distance[is_middle]
    height, width = inside.shape
    to_border = np.minimum.reduce([rows + 1, columns + 1, height - rows, width - columns])
    # The middle of a wire of w pixels is (w + 1) / 2 pixels from the background, or w / 2 if w is
    # even.
    return 2.0 * reach[reach < to_border] - 0.5


def median_wire_width(mask: np.ndarray) -> float:
    """Return the median width of the wires in a mask `[H, W]` in pixels; 0 if it has none."""
    widths = wire_widths(mask)
    return float(np.median(widths)) if len(widths) else 0.0
