"""The prediction of one image with all that `eal-icnet predict` decides for it.

These are the level of white, the network, the levels that it was trained on, and magnifications.
"""

import dataclasses
import functools
import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from eal_icnet_jax.imaging import levels, mosaic_files, pixel_values
from eal_icnet_jax.imaging.mosaics import Mosaic, mosaic_from_array
from eal_icnet_jax.inference.cleaning import MAX_AREA, clean_mask
from eal_icnet_jax.inference.magnified_image import MagnifiedImage
from eal_icnet_jax.inference.prediction_models import ModelChoice
from eal_icnet_jax.inference.prediction_options import ImageOptions, check_threshold
from eal_icnet_jax.inference.scaling import Scale
from eal_icnet_jax.inference.windows import AveragedWindows, exceeds_whole, mean_of
from eal_icnet_jax.system.errors import UserError

if TYPE_CHECKING:
    from eal_icnet_jax.inference.stored_programs import StoredForwardPass
    from eal_icnet_jax.models.network import Network

MULTISCALE = (2**-0.5, 1.0, 2**0.5)
"""Magnifications over which `--multiscale` averages, relative to the one that suits the network."""

SPECK_SIDE = 0.5
"""Side of the largest square speck that is removed by default, relative to the width of wires."""


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
        self.is_large = exceeds_whole(mosaic.shape)

    @functools.cached_property
    def mosaic(self) -> Mosaic:
        """The image with the levels that the network was trained on."""
        return self.model.prepared(self._in_full_range)

    @functools.cached_property
    def scale(self) -> Scale:
        """The magnification of the image."""
        return self.model.scale_of(self.mosaic, self._options.scale)

    @property
    def speck_area(self) -> int:
        """Regions of fewer pixels are removed by default; 0 for a network without a wire width."""
        known = self.model.spec.preprocessing.wire_width
        wire_width = self.scale.wire_width or known / self.scale.factor
        return min(round((SPECK_SIDE * wire_width) ** 2), MAX_AREA)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each thing that a user should know."""
        return (*self.mosaic.notes, *filter(None, (self._choice_note, self.scale.note)))

    def at(self, step: float = 1.0) -> MagnifiedImage:
        """Return the image at `scale` times a step."""
        return MagnifiedImage(self.mosaic, self.model, step * self.scale.factor, self._options)

    @property
    def _magnified(self) -> list[MagnifiedImage]:
        """The image at each magnification over which the prediction is averaged."""
        return [self.at(step) for step in (MULTISCALE if self._options.multiscale else (1.0,))]

    def windows(self) -> AveragedWindows:
        """Return the windows of the image and their prediction."""
        return AveragedWindows([image.windows() for image in self._magnified])

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """The image as the network takes it, `[H, W, C]` float32 in [0, 1]."""
        return pixel_values.to_unit_range(
            self.mosaic[slice(None), slice(None)], self.model.channels
        )

    def probabilities(self) -> np.ndarray:
        """Return the probabilities `[H, W, classes]`, with their spread if it is asked for."""
        return mean_of(image.probabilities() for image in self._magnified)


@dataclasses.dataclass(frozen=True)
class PredictedImage:
    """The prediction of an image.

    Attributes:
      probabilities: of foreground, `[H, W]` float32 by the name of each of the network's outputs,
        such as "metal" and "via". An output without a name is called by its number, from 1.
      threshold: smallest probability of foreground.
      remove_specks: regions of the masks of fewer pixels are removed.
      notes: a sentence for each thing about the image that a user should know.
    """

    probabilities: dict[str, np.ndarray]
    threshold: float
    remove_specks: int
    notes: tuple[str, ...]

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """The masks `[H, W]` bool by the name of the output."""
        return {
            name: clean_mask(value >= self.threshold, self.remove_specks, 0)
            for name, value in self.probabilities.items()
        }


class ImagePredictor:
    """Predicts images as `eal-icnet predict` does, in memory.

    Args:
      model: in evaluation mode; None for the packaged network that suits each image.
      threshold: smallest probability of foreground.
      scale: factor by which images are magnified before prediction, or "auto" for the one that
        suits the network, if it was trained for wires of a certain width.
      tta: whether the prediction is averaged over flips and quarter turns.
      multiscale: whether it is averaged over three magnifications: `scale`, and this one divided
        and multiplied by the square root of two.
      white: level of white in the images; None for what each file states or shows.

    Raises:
      UserError: an option has a value that makes no sense, or the network takes neither grey nor
        RGB images.
    """

    def __init__(
        self,
        model: "Network | StoredForwardPass | None" = None,
        *,
        threshold: float = 0.5,
        scale: float | str = "auto",
        tta: bool = False,
        multiscale: bool = False,
        white: int | None = None,
    ):
        check_threshold(threshold)
        self._choice, self._threshold = ModelChoice(model), threshold
        self._options = ImageOptions(scale=scale, tta=tta, multiscale=multiscale, white=white)

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
        return PredictedImage(by_name, self._threshold, prediction.speck_area, prediction.notes)
