"""Connected regions of masks."""

import cv2
import numpy as np


def connected_regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the 8-connected regions of a mask.

    Args:
      mask: `[H, W]` bool or uint8; non-zero is foreground.

    Returns:
      The region of each pixel `[H, W]` int32, where region 0 is the background, and OpenCV's
      statistics of each region `[N, 5]` int32 (`cv2.CC_STAT_LEFT`, ..., `cv2.CC_STAT_AREA`).
    """
    _, regions, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    return regions, statistics
