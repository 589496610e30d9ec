"""What is compared of two layers: edges of photographs, depths of masks."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Feature = Callable[[np.ndarray], np.ndarray]
"""Takes a grey image `[H, W]` float32, returns `[H, W, C]` float32."""

BLUR = 1.2
"""Standard deviation in pixels of the blur before slopes are taken."""

NEAR = 3
"""Distance in pixels from a strong edge at which no faint one can be seen."""

AROUND = 12.0
"""Standard deviation in pixels of what lies around a pixel of a mask."""

DEEPEST = 100.0
"""Depth in pixels from which on all are the same."""

ABOVE_NOISE = 4.0
"""By what factor the power of an edge's slope exceeds the median of the image, at least."""


def _slopes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    smooth = cv2.GaussianBlur(image, (0, 0), BLUR)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    return x, y


def edge_feature(samples: Sequence[np.ndarray], part: str) -> Feature:
    """Return a function that finds the directions of edges.

    It returns vectors of two, of length at most 1, and near 0 where there is no edge. Their angle
    is double that of the slope, so that an edge from dark to bright equals one from bright to dark.

    Args:
      samples: parts of the image, grey `[H, W]` float32, from which is learnt what is noise and
        what a strong edge.
      part: which edges count: "all", "strong" or "faint" ones. Those of a lower layer are strong in
        its own photograph, and faint in that of the layer above it.
    """
    power = np.concatenate([np.square(_slopes(sample)).sum(0).ravel() for sample in samples])
    noise = float(np.median(power)) + 1e-3
    edges = np.log(power[power > ABOVE_NOISE * noise])
    strong = np.inf
    if len(edges):
        low, high = edges.min(), max(np.percentile(edges, 99.5), edges.min() + 1e-6)
        levels = np.clip(255 * (edges - low) / (high - low), 0, 255).astype(np.uint8)
        level, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
        strong = float(np.exp(low + level / 255 * (high - low)))

    def feature(image: np.ndarray) -> np.ndarray:
        x, y = _slopes(image)
        power = x * x + y * y
        out = np.stack([x * x - y * y, 2 * x * y], -1) / (power + 2 * noise)[..., None]
        if part != "all":
            kernel = np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)
            near = cv2.dilate((power > strong).astype(np.uint8), kernel)
            out *= (near if part == "strong" else 1 - near)[..., None]
        return out

    return feature


def depth_feature(mask: np.ndarray, white: float) -> np.ndarray:
    """Return how many pixels each one lies deeper in a mask than those around it, `[H, W, 1]`.

    The middle of a via then fits the middle of the wire that it lies on.

    Args:
      mask: grey `[H, W]` float32, 0 outside.
      white: its level inside.
    """
    depth = cv2.distanceTransform((mask > white / 2).astype(np.uint8), cv2.DIST_L2, 5).clip(
        0, DEEPEST
    )
    narrow, wide = (cv2.GaussianBlur(depth, (0, 0), sigma) for sigma in (BLUR, AROUND))
    return (narrow - wide)[..., None]
