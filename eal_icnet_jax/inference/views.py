"""Test-time augmentation: the mean prediction over flips and quarter turns of an image."""

import itertools
from collections.abc import Callable

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
"""Maps images `[B, H, W, C]` in [0, 1] to probabilities `[B, H, W, classes]`."""


def over_views(predict: Predict) -> Predict:
    """Return a prediction that averages over the eight flips and quarter turns of its images."""

    def averaged(images: np.ndarray) -> np.ndarray:
        total = None
        for transposed, down, across in itertools.product((False, True), repeat=3):
            axes = [axis for axis, flips in ((1, down), (2, across)) if flips]
            view = np.flip(images.swapaxes(1, 2) if transposed else images, axes)
            out = np.flip(predict(np.ascontiguousarray(view)), axes)
            out = out.swapaxes(1, 2) if transposed else out
            total = out if total is None else total + out
        return total / np.float32(8)

    return averaged
