"""The prediction of one image with all that `eal-icnet predict` decides for it.

These are the level of white, the network, the levels that it was trained on, the magnification, and
windows.
"""

import dataclasses
import functools
import os
import pathlib

import jax
import numpy as np

from eal_icnet_jax.imaging import levels, mosaic_files, pixel_values
from eal_icnet_jax.imaging.mosaics import Mosaic, mosaic_from_array
from eal_icnet_jax.inference.prediction_models import ModelChoice
from eal_icnet_jax.inference.prediction_options import ImageOptions, check_threshold
from eal_icnet_jax.inference.scaling import Scale
from eal_icnet_jax.inference.windows import DEFAULT_WINDOW, OVERLAP_DIVISOR, BlendedWindows
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.system.errors import UserError

MAX_WHOLE_PIXELS = 2048 * 2048
"""Largest number of pixels of an image that may go through the network without windows."""

WINDOWS_PER_ACCELERATOR = 8
"""Default number of windows at once on a device other than a CPU."""


class ImagePrediction:
    """How one image is predicted.

    Args:
      mosaic: the image as its file holds it.
      choice: of the network.
      options: of the user.

    Attributes:
      model: the network.
      is_large: whether it is too large to be predicted without windows.

    Raises:
      UserError: its pixels are of a kind that is not predicted, or it is too small.
    """

    def __init__(self, mosaic: Mosaic, choice: ModelChoice, options: ImageOptions):
        if mosaic.dtype not in (np.uint8, np.uint16):
            raise UserError(f"{mosaic.path} has 1 bit per pixel: convert it to 8 or 16")
        self._options = options
        self._in_full_range = levels.in_full_range(mosaic, options.white)
        self.model, self._choice_note = choice.of(self._in_full_range)
        self.model.predictor.check_size(str(mosaic.path), mosaic.shape)
        self.is_large = mosaic.shape[0] * mosaic.shape[1] > MAX_WHOLE_PIXELS

    @functools.cached_property
    def mosaic(self) -> Mosaic:
        """The image with the levels that the network was trained on."""
        return self.model.prepared(self._in_full_range)

    @functools.cached_property
    def scale(self) -> Scale:
        """The magnification of the image."""
        return self.model.scale_of(self.mosaic, self._options.scale)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each thing that a user should know."""
        return (*self.mosaic.notes, *filter(None, (self._choice_note, self.scale.note)))

    @property
    def _window_side(self) -> int:
        """The side of a window in pixels of the image, by default such that it has its usual size
        once magnified."""
        default = self.model.spec.preprocessing.crop_size or DEFAULT_WINDOW
        return self._options.window or round(default / self.scale.factor)

    @property
    def window(self) -> tuple[int, int]:
        """The height and width of a window in pixels of the image, which they do not exceed."""
        return tuple(min(self._window_side, size) for size in self.mosaic.shape)

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

    def windows(self) -> BlendedWindows:
        """Return the windows of the image and their prediction."""
        # Results must not depend on the images before, so programs are not shared.
        predict = self.model.predict_at(self.scale, self._options.tta, share_programs=False)
        return BlendedWindows(
            self.mosaic,
            predict,
            self.model.channels,
            self.model.classes,
            self.window,
            self.overlap,
            self.batch,
        )

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """The input of the network, `[H, W, C]` float32 in [0, 1]."""
        return pixel_values.to_unit_range(
            self.mosaic[slice(None), slice(None)], self.model.channels
        )

    def probabilities(self) -> np.ndarray:
        """Return the probabilities `[H, W, classes]`.

        A large image is predicted in windows, and any image by a network that was trained on crops
        at one magnification: attention spans all pixels, so that it knows images of their size.
        """
        height, width = self.mosaic.shape
        becomes_large = height * width * self.scale.factor**2 > MAX_WHOLE_PIXELS
        knows_crops = self.model.spec.preprocessing.crop_size > 0
        exceeds_crop = knows_crops and self.window != self.mosaic.shape
        self._options.check_overlap(self._window_side)  # also where one window holds the image
        if self.is_large or self._options.window or becomes_large or exceeds_crop:
            return next(self.windows().strips(slice(0, width), [slice(0, height)]))
        predict = self.model.predict_at(self.scale, self._options.tta, share_programs=True)
        return predict(self.pixels[None])[0]


@dataclasses.dataclass(frozen=True)
class PredictedImage:
    """The prediction of an image.

    Attributes:
      probabilities: of foreground, `[H, W]` float32 by the name of each of the network's outputs,
        such as "metal" and "via". An output without a name is called by its number, from 1.
      threshold: smallest probability of foreground.
      notes: a sentence for each thing about the image that a user should know.
    """

    probabilities: dict[str, np.ndarray]
    threshold: float
    notes: tuple[str, ...]

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """The masks `[H, W]` bool by the name of the output."""
        return {name: value >= self.threshold for name, value in self.probabilities.items()}


class ImagePredictor:
    """Predicts images as `eal-icnet predict` does, in memory.

    Args:
      model: in evaluation mode; None for the packaged network that suits each image.
      threshold: smallest probability of foreground.
      scale: factor by which images are magnified before prediction, or "auto" for the one that
        suits the network, if it was trained for wires of a certain width.
      tta: whether the prediction is averaged over flips and quarter turns.
      white: level of white in the images; None for what each file states or shows.

    Raises:
      UserError: an option has a value that makes no sense, or the network takes neither grey nor
        RGB images.
    """

    def __init__(
        self,
        model: Network | None = None,
        *,
        threshold: float = 0.5,
        scale: float | str = "auto",
        tta: bool = False,
        white: int | None = None,
    ):
        check_threshold(threshold)
        self._choice, self._threshold = ModelChoice(model), threshold
        self._options = ImageOptions(scale=scale, tta=tta, white=white)

    def __call__(self, image: str | os.PathLike | np.ndarray) -> PredictedImage:
        """Predict an image.

        Args:
          image: a file, or an array `[H, W]` or RGB `[H, W, 3]` of uint8 or uint16.

        Raises:
          UserError: it cannot be read, or is too small.
        """
        if isinstance(image, np.ndarray):
            mosaic = mosaic_from_array(pathlib.Path("array"), image)
        else:
            mosaic = mosaic_files.open_mosaic(image)
        prediction = ImagePrediction(mosaic, self._choice, self._options)
        probabilities = np.moveaxis(prediction.probabilities(), -1, 0)
        names = prediction.model.spec.output_names
        by_name = dict(zip(names, probabilities, strict=True))
        return PredictedImage(by_name, self._threshold, prediction.notes)
