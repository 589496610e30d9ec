"""A model compiled for prediction."""

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from eal_icnet_jax.inference.stored_programs import StoredForwardPass
from eal_icnet_jax.system.errors import UserError

if TYPE_CHECKING:
    from flax import nnx

    from eal_icnet_jax.inference.forward_pass import ForwardPass
    from eal_icnet_jax.models.network import Network

MAX_CANVAS_SIDE = 1024
"""Longest side of a canvas in pixels. For larger images, computing the unused part of a canvas
takes longer than compiling a program for the image's own size."""

PROGRAM_COST = 4_000_000
"""Cost of compiling a program, as the number of pixels that two CPU cores predict in that time."""


def canvas_size_for(image_size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the size of the canvas that images of about this size share.

    Each side of a canvas is the smallest of 64, 96, 128, 192, 256, ... that holds the image's side.

    Args:
      image_size: height and width of the image.

    Returns:
      Height and width of the canvas, or None if a side of the image exceeds `MAX_CANVAS_SIDE`.
    """
    if max(image_size) > MAX_CANVAS_SIDE:
        return None
    sides = sorted(side << n for side in (64, 96) for n in range(5) if side << n <= MAX_CANVAS_SIDE)
    height, width = (next(side for side in sides if side >= length) for length in image_size)
    return height, width


class Program(NamedTuple):
    """The input that a compiled forward pass takes.

    batch, height, width: shape of the images.
    on_canvas: whether the images may be smaller, each in the upper-left corner of a canvas.
    """

    batch: int
    height: int
    width: int
    on_canvas: bool

    def pixel_count(self) -> int:
        """Return the number of pixels that one call predicts."""
        return self.batch * self.height * self.width

    def can_predict(self, other: "Program") -> bool:
        """Return whether this program can predict the images of another one."""
        fits = self.on_canvas and self.height >= other.height and self.width >= other.width
        return self.batch >= other.batch and (fits or self[1:3] == other[1:3])


def _forward_pass(
    model: "Network | StoredForwardPass", **loss: float | Sequence[float]
) -> "ForwardPass | StoredForwardPass":
    if isinstance(model, StoredForwardPass):
        return model
    from eal_icnet_jax.inference import forward_pass  # imports Flax

    return forward_pass.ForwardPass(model, **loss)


class Predictor:
    """A model's compiled forward pass over the devices of this process, batch norms folded.

    Images of several sizes share compiled programs up to 1024 pixels a side: each lies in the
    upper-left corner of a larger canvas, and the layers ignore the rest of the canvas
    (`layers.on_canvas`), so that only roundings differ. A batch smaller than earlier ones is padded
    to their size. A shape that comes often enough gets a program of its own.

    Args:
      model: in evaluation mode; or a stored forward pass, whose loss has the default weights.
      loss: weights and epsilon of `bce_dice_loss`, for `with_losses`.

    Attributes:
      minimum_size: smallest height and width of an image, in pixels.
    """

    def __init__(self, model: "Network | StoredForwardPass", **loss: float | Sequence[float]):
        self._forward_pass = _forward_pass(model, **loss)
        self.minimum_size = model.smallest
        self._supports_canvas = model.supports_canvas
        self._alignment = model.alignment
        self._programs: dict[bool, set[Program]] = {True: set(), False: set()}
        self._waste: collections.Counter[Program] = collections.Counter()

    def load(self, state: "nnx.State"):
        """Replace the weights and statistics by a state of the model that was passed in."""
        self._forward_pass.load(state)

    def check_size(self, name: str, shape: tuple[int, ...]):
        """Raise a `UserError` if an image `[H, W, ...]` is too small for the model."""
        least = self.minimum_size
        if min(shape[:2]) < least:
            raise UserError(
                f"{name} is {shape[0]}x{shape[1]} (height x width): the model needs at least "
                f"{least}x{least}"
            )

    def _choose_program(
        self,
        shape: tuple[int, int, int],
        use_canvas: bool,
        canvas: tuple[int, int] | None = None,
    ) -> Program:
        """Return the program for a batch of this shape: the smallest one that can predict it.

        If a canvas is named that holds the images, it is the program for that one.

        Its waste is the number of pixels it predicts beyond those of a better program: one for the
        canvas of such images, or one for exactly their shape. Once the accumulated waste exceeds
        `PROGRAM_COST`, the better program is made. So the total time is at most a few times that of
        the best choice, which would need to know all later shapes.
        """
        devices = jax.local_device_count()
        exact = Program(-(-shape[0] // devices) * devices, *shape[1:], on_canvas=False)
        if canvas is not None and self._supports_canvas:
            named = Program(exact.batch, *canvas, on_canvas=True)
            if named.can_predict(exact):
                self._programs[True].add(named)
                return named
        usual = None
        if use_canvas and min(shape[1:]) >= self.minimum_size:
            usual = canvas_size_for(shape[1:])
        shared = exact
        if usual not in (None, shape[1:]):
            shared = Program(exact.batch, *usual, on_canvas=True)
        suitable = (program for program in self._programs[use_canvas] if program.can_predict(exact))
        chosen = min(suitable, key=Program.pixel_count, default=shared)
        for better in dict.fromkeys((exact, shared)):
            waste = self._waste[better] + chosen.pixel_count() - better.pixel_count()
            if waste > PROGRAM_COST:
                chosen = better
                break
            self._waste[better] = max(0, waste)
        self._programs[use_canvas].add(chosen)
        return chosen

    @staticmethod
    def _padded(images: np.ndarray, program: Program) -> np.ndarray:
        """Pad a batch to a program's shape: with copies of the last image, and zeros around all."""
        count, height, width, _ = images.shape
        images = np.pad(images, ((0, program.batch - count), *((0, 0),) * 3), "edge")
        margins = ((0, program.height - height), (0, program.width - width))
        return np.pad(images, ((0, 0), *margins, (0, 0)))

    def probabilities(
        self,
        images: np.ndarray,
        share_programs: bool = True,
        canvas: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Predict images of one size.

        Images whose size is no multiple of the network's `alignment` are extended to one by their
        last row and column, and the probabilities are cropped, so that they lie exactly over the
        image.

        Args:
          images: `[B, H, W, C]` float32 in [0, 1].
          share_programs: whether images of other sizes may use the same program. Roundings then
            depend on the sizes that were predicted before.
          canvas: height and width of the canvas on which the images lie if they fit and the
            network knows canvases, whatever was predicted before.

        Returns:
          `[B, H, W, classes]` float32.
        """
        height, width = images.shape[1:3]
        margins = (-height % self._alignment, -width % self._alignment)
        if any(margins):
            images = np.pad(images, ((0, 0), *((0, margin) for margin in margins), (0, 0)), "edge")
        return self._aligned_probabilities(images, share_programs, canvas)[:, :height, :width]

    def _aligned_probabilities(
        self, images: np.ndarray, share_programs: bool, canvas: tuple[int, int] | None
    ) -> np.ndarray:
        """Predict images of a size that suits the network."""
        count, height, width, _ = images.shape
        use_canvas = share_programs and self._supports_canvas
        program = self._choose_program((count, height, width), use_canvas, canvas)
        batch = self._padded(images, program)
        if program.on_canvas:
            image_size = np.array((height, width), np.int32)
            out = self._forward_pass.canvas_probabilities(batch, image_size)
        else:
            out = self._forward_pass.probabilities(batch)
        return np.asarray(out)[:count, :height, :width]

    def with_losses(
        self, images: np.ndarray, labels: np.ndarray, valid: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict images of one size, and compute the loss of each.

        Args:
          images: `[B, H, W, C]` float32 in [0, 1].
          labels: `[B, H, W, classes]`, 0 or 1.
          valid: `[B, H, W, 1]` bool, the pixels that count in the loss; None for all.

        Returns:
          Probabilities `[B, H, W, classes]` and losses `[B]`, float32. An image's loss is that of a
          batch of one, as in the reference.
        """
        if valid is None:
            valid = np.ones((*labels.shape[:3], 1), bool)
        program = self._choose_program(images.shape[:3], use_canvas=False)
        batches = (self._padded(part, program) for part in (images, labels, valid))
        probabilities, losses = self._forward_pass.with_losses(*batches)
        count, (height, width) = len(images), images.shape[1:3]
        if height % self._alignment or width % self._alignment:  # takes a second pass
            found = self.probabilities(images, share_programs=False)
        else:
            found = np.asarray(probabilities)[:count]
        return found, np.asarray(losses)[:count]
