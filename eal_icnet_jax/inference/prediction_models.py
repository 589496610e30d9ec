"""The network that predicts an image: the user's, or the packaged one for such an image."""

import functools
from typing import TYPE_CHECKING

import numpy as np

from eal_icnet_jax.imaging import stretching
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.inference.scaling import Scale, at_scale, find_scale
from eal_icnet_jax.inference.stored_programs import StoredForwardPass, packaged_network
from eal_icnet_jax.inference.views import Predict, over_views
from eal_icnet_jax.inference.windows import exceeds_whole
from eal_icnet_jax.models.pretrained import KINDS, PRETRAINED
from eal_icnet_jax.models.registry import SMALLEST_IMAGE
from eal_icnet_jax.system.errors import UserError

if TYPE_CHECKING:
    from eal_icnet_jax.models.network import Network

COLOURED = 0.03
"""Mean difference of the largest and the smallest channel of a photograph with colours, relative to
the range of its levels."""

SAMPLE_SIDE = 1024
"""Side in pixels of the squares whose colours are looked at."""


def looks_on_canvas(scale: float | str, shape: tuple[int, ...]) -> bool:
    """Return whether the squares that a network looks at lie on a canvas of their size.

    One program then looks for the scale, predicts the windows, and predicts the image if that is
    smaller than a window once it is magnified. It takes 3% longer, and 15% to compile: a large
    image has many windows, and where the scale is known, one program for exactly the windows does.

    Args:
      scale: the user's factor, or "auto".
      shape: height and width of the image.
    """
    return scale == "auto" and not exceeds_whole(shape)


class PredictionModel:
    """A network that is compiled for prediction.

    Args:
      model: in evaluation mode, or a stored forward pass.

    Attributes:
      spec: name, options and preprocessing.
      channels: of the images.
      classes: number of masks.
      predictor: its compiled forward pass.

    Raises:
      UserError: it takes neither grey nor RGB images.
    """

    def __init__(self, model: "Network | StoredForwardPass"):
        self._model, self.spec = model, model.spec
        options = dict(model.spec.options)
        self.channels, self.classes = options["in_channels"], options["classes"]
        if self.channels not in (1, 3):
            raise UserError(
                f"the model takes images of {self.channels} channels: name a checkpoint for grey "
                "or RGB images"
            )
        self.predictor = Predictor(model)

    @functools.cached_property
    def weights_digest(self) -> str:
        """The SHA-256 of the weights."""
        if isinstance(self._model, StoredForwardPass):
            return self._model.weights_digest
        from eal_icnet_jax.models import named_arrays  # imports Flax

        return named_arrays.weights_digest(self._model)

    def predict_at(
        self,
        factor: float,
        tta: bool,
        share_programs: bool,
        with_spread: bool = False,
        on_canvas: bool = False,
    ) -> Predict:
        """Return the prediction of images `[B, H, W, C]` at a magnification.

        Args:
          factor: magnification.
          tta: whether to average over flips and quarter turns.
          share_programs: as for `Predictor.probabilities`.
          with_spread: whether the spread over those follows the probabilities, see `over_views`.
          on_canvas: whether images lie on a canvas of the squares that the network was trained on,
            if these have one size, see `looks_on_canvas`.
        """
        crop_size = self.spec.preprocessing.crop_size
        predict = functools.partial(
            self.predictor.probabilities,
            share_programs=share_programs,
            canvas=(crop_size, crop_size) if crop_size and on_canvas else None,
        )
        views = over_views(predict, with_spread) if tta else predict
        return at_scale(views, factor, self.predictor.minimum_size, crop_size)

    def prepared(self, mosaic: Mosaic) -> Mosaic:
        """Return an image with the levels that the network was trained on."""
        return stretching.stretched(mosaic, self.spec.preprocessing.stretch)

    def scale_of(self, mosaic: Mosaic, scale: float | str) -> Scale:
        """Return the magnification of a prepared image.

        Args:
          mosaic: of `prepared`.
          scale: the user's factor, or "auto" for the one that suits the network.
        """
        if scale != "auto":
            return Scale(float(scale))
        if not self.spec.preprocessing.wire_width:
            return Scale()
        # The same in every process, so programs are not shared.
        on_canvas = looks_on_canvas(scale, mosaic.shape)
        predict = self.predict_at(1.0, tta=False, share_programs=False, on_canvas=on_canvas)
        least = self.predictor.minimum_size
        return find_scale(mosaic, predict, self.channels, self.spec.preprocessing, least)


def load_for_prediction(checkpoint: str | None) -> "Network | StoredForwardPass | None":
    """Return the network of a command's --checkpoint, for `ModelChoice`.

    Args:
      checkpoint: as `checkpoints.load_model` takes it; None for the packaged network that suits
        each image.

    Raises:
      UserError: as `checkpoints.load_model`.
    """
    if not checkpoint:
        return None
    if checkpoint in PRETRAINED:
        return packaged_network(checkpoint)
    from eal_icnet_jax.models import checkpoints  # imports Orbax, which takes time

    return checkpoints.load_model(checkpoint)


def is_coloured(mosaic: Mosaic) -> bool:
    """Return whether an image has colours, which micrographs of electron microscopes lack."""
    height, width = mosaic.shape
    top, left = max(0, height - SAMPLE_SIDE) // 2, max(0, width - SAMPLE_SIDE) // 2
    part = mosaic[top : top + SAMPLE_SIDE, left : left + SAMPLE_SIDE]
    if part.ndim == 2:
        return False
    part = part.astype(np.float32)
    spread = float(np.mean(part.max(-1) - part.min(-1)))
    low, high = np.percentile(part, (1, 99))
    return spread > COLOURED * max(float(high - low), 1)


class ModelChoice:
    """Chooses the network of each image.

    Args:
      model: the user's network; None for the packaged ones.

    Attributes:
      outputs: what is added to an image's name for the mask of each output, by its name.
      smallest: least height and width of an image in pixels.
    """

    def __init__(self, model: "Network | StoredForwardPass | None"):
        self._given = None if model is None else PredictionModel(model)
        self._packaged: dict[str, PredictionModel] = {}
        self.outputs = {kind: f"_{kind}" for kind in KINDS}
        if self._given is not None:
            spec = self._given.spec
            self.outputs = dict(zip(spec.output_names, spec.mask_suffixes(), strict=True))
        self.smallest = SMALLEST_IMAGE if model is None else model.smallest

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What is added to an image's name for each of its masks."""
        return tuple(self.outputs.values())

    def of(self, mosaic: Mosaic) -> tuple[PredictionModel, str]:
        """Return the network of an image, and a sentence if it was chosen."""
        if self._given is not None:
            return self._given, ""
        coloured = is_coloured(mosaic)
        name, other = ("optical", "sem") if coloured else ("sem", "optical")
        look = "has colours" if coloured else "is grey"
        if name not in self._packaged:
            self._packaged[name] = PredictionModel(packaged_network(name))
        return self._packaged[name], (
            f"it {look}, so the packaged weights for {PRETRAINED[name].about} are used; name "
            f"others with --checkpoint, such as --checkpoint={other}"
        )
