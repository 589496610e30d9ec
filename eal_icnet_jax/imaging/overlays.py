"""Masks drawn over images."""

import cv2
import numpy as np

BLUE, ORANGE, SKY_BLUE = (0, 114, 178), (230, 159, 0), (86, 180, 233)
RED_PURPLE = (204, 121, 167)
"""RGB colours of Okabe and Ito's palette, which colour-blind readers can tell apart."""


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw a mask over an image: a blue tint with an orange outline.

    Args:
      image: `[H, W, 1 or 3]` float32 in [0, 1].
      mask: `[H, W]` bool.

    Returns:
      RGB `[H, W, 3]` uint8.
    """
    out = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
    out = np.rint(255 * out)
    out[mask] = 0.65 * out[mask] + 0.35 * np.array(BLUE)
    interior = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    out[mask & ~interior] = ORANGE
    return out.astype(np.uint8)


def veiled(image: np.ndarray) -> np.ndarray:
    """Return an image `[H, W, C]` uint8 as it is shown where pixels are ignored: pale."""
    return (image // 3 + 150).astype(np.uint8)


def outlined(image: np.ndarray, masks: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image without and with the outlines of its masks, both as RGB `[H, W, 3]` uint8.

    Args:
      image: `[H, W, 1 or 3]` uint8.
      masks: `[H, W]` bool by name; the first is outlined in orange, the second in sky blue.
    """
    image = np.repeat(image, 3 // image.shape[-1], -1)
    marked = image.copy()
    thickness = max(1, len(image) // 256)
    for mask, colour in zip(masks.values(), (ORANGE, SKY_BLUE), strict=False):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(marked, contours, -1, colour, thickness)
    return image, marked
