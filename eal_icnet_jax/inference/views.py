"""Test-time augmentation: the mean prediction over flips and quarter turns of an image."""

import itertools
from collections.abc import Callable

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
"""Maps images `[B, H, W, C]` in [0, 1] to probabilities `[B, H, W, classes]`."""


def over_views(predict: Predict, with_spread: bool = False) -> Predict:
    """Return a prediction that averages over the eight flips and quarter turns of its images.

    Args:
      predict: of images.
      with_spread: whether the standard deviation over the views, times 2 so that it lies in [0, 1],
        follows the mean: the prediction then has twice as many classes.
    """

    def averaged(images: np.ndarray) -> np.ndarray:
        total = squares = None
        for transposed, down, across in itertools.product((False, True), repeat=3):
            axes = [axis for axis, flips in ((1, down), (2, across)) if flips]
            view = np.flip(images.swapaxes(1, 2) if transposed else images, axes)
            out = np.flip(predict(np.ascontiguousarray(view)), axes)
            out = out.swapaxes(1, 2) if transposed else out
            total = out if total is None else total + out
            if with_spread:
                squares = out**2 if squares is None else squares + out**2
        mean = total / np.float32(8)
        if squares is None:
            return mean
        variance = np.maximum(squares / np.float32(8) - mean**2, 0)
        return np.concatenate([mean, 2 * np.sqrt(variance)], axis=-1)

    return averaged


def uncertainty(probabilities: np.ndarray, spread: np.ndarray | None) -> np.ndarray:
    """Return how unsure a prediction is, in [0, 1]: 1 where the probability is 1/2.

    It is `1 - |2 p - 1|` or the spread over the views, whichever is larger.

    Args:
      probabilities: p, of any shape.
      spread: of `over_views`, of the same shape; None if there is one view only.
    """
    margin = 1 - np.abs(2 * probabilities - 1)
    return margin if spread is None else np.maximum(margin, spread)
