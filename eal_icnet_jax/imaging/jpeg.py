"""What JPEG makes of an image."""

import cv2
import numpy as np


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image `[H, W]` or `[H, W, 3]` uint8 as a JPEG of a quality from 0 to 100 stores it.

    An image `[H, W, 1]` becomes `[H, W]`.
    """
    encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    return cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
