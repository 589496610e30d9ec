"""The prediction of an image at one magnification, whole or in windows."""

import jax
import numpy as np

from eal_icnet_jax.imaging import pixel_values
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.inference.prediction_models import PredictionModel, looks_on_canvas
from eal_icnet_jax.inference.prediction_options import ImageOptions
from eal_icnet_jax.inference.views import Predict
from eal_icnet_jax.inference.windows import (
    DEFAULT_WINDOW,
    OVERLAP_DIVISOR,
    BlendedWindows,
    exceeds_whole,
    nothing_in,
    seen,
    uncovered_in,
)

WINDOWS_PER_ACCELERATOR = 8
"""Default number of windows at once on a device other than a CPU."""


class MagnifiedImage:
    """An image that is magnified for its network.

    Args:
      mosaic: the image, with the levels that the network was trained on.
      model: the network.
      factor: magnification.
      options: of the user.
    """

    def __init__(
        self, mosaic: Mosaic, model: PredictionModel, factor: float, options: ImageOptions
    ):
        self._mosaic, self._model, self._factor = mosaic, model, factor
        self._options = options

    @property
    def _window_side(self) -> int:
        """The side of a window in pixels of the image, by default such that it has its usual size
        once magnified."""
        default = self._model.spec.preprocessing.crop_size or DEFAULT_WINDOW
        return self._options.window or round(default / self._factor)

    @property
    def window(self) -> tuple[int, int]:
        """The height and width of a window in pixels of the image, which they do not exceed."""
        return tuple(min(self._window_side, size) for size in self._mosaic.shape)

    @property
    def overlap(self) -> int:
        """The overlap of windows in pixels of the image.

        Raises:
          UserError: the user's one is more than half a window.
        """
        self._options.check_overlap(self._window_side)
        if self._options.overlap is not None:
            return self._options.overlap
        return self._window_side // OVERLAP_DIVISOR

    @property
    def batch(self) -> int:
        """The number of windows that are predicted at once."""
        per_device = 1 if jax.default_backend() == "cpu" else WINDOWS_PER_ACCELERATOR
        return self._options.batch or jax.local_device_count() * per_device

    def _predict(self, share_programs: bool, on_canvas: bool = False) -> Predict:
        options = self._options
        return self._model.predict_at(
            self._factor, options.tta, share_programs, options.with_spread, on_canvas
        )

    def windows(self) -> BlendedWindows:
        """Return the windows of the image and their prediction."""
        # Results must not depend on the images before, so programs are not shared.
        on_canvas = looks_on_canvas(self._options.scale, self._mosaic.shape)
        predict = self._predict(share_programs=False, on_canvas=on_canvas)
        return BlendedWindows(
            self._mosaic,
            predict,
            self._model.channels,
            self._model.classes * (2 if self._options.with_spread else 1),
            self.window,
            self.overlap,
            self.batch,
        )

    def probabilities(self) -> np.ndarray:
        """Return the probabilities `[H, W, classes]`, and their spread if the options ask for it.

        A large image is predicted in windows, and any image by a network that was trained on crops
        at one magnification: attention spans all pixels, so that it knows images of their size.
        """
        height, width = shape = self._mosaic.shape
        knows_crops = self._model.spec.preprocessing.crop_size > 0
        exceeds_crop = knows_crops and self.window != shape
        self._options.check_overlap(self._window_side)  # also where one window holds the image
        is_large = exceeds_whole(shape) or exceeds_whole(shape, self._factor)
        if is_large or self._options.window or exceeds_crop:
            return next(self.windows().strips(slice(0, width), [slice(0, height)]))
        predict = self._predict(share_programs=True)
        whole = slice(0, height), slice(0, width)
        pixels = self._mosaic[whole]
        gap = uncovered_in(self._mosaic, pixels, *whole)
        image = pixel_values.to_unit_range(seen(pixels, gap), self._model.channels)
        return nothing_in(predict(image[None])[0], gap)
