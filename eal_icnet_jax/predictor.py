"""A model made ready to predict."""

import collections
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from eal_icnet_jax.distributed import data_mesh
from eal_icnet_jax.layers import fold_batch_norms, frame, frame_for
from eal_icnet_jax.losses import bce_dice_loss

PROGRAM_COST = 4_000_000
"""Pixels that take about as long to predict, on two CPU cores, as a program takes to compile."""


class Program(NamedTuple):
    """What a compiled forward pass takes."""

    batch: int
    height: int
    width: int
    framed: bool
    """Images of other sizes too, in a frame."""

    def pixels(self) -> int:
        return self.batch * self.height * self.width

    def holds(self, other: "Program") -> bool:
        """Whether images of the other's shape may be predicted by this."""
        larger = self.framed and self.height >= other.height and self.width >= other.width
        return self.batch >= other.batch and (larger or self[1:3] == other[1:3])


class Predictor:
    """A model's compiled forward pass over the process's devices, batch normalisation folded.

    Images of up to 1024 pixels a side share compiled programs with those of other sizes: they lie
    in the upper left of a larger frame, and the layers see to it that the frame's rest changes
    nothing but roundings (`layers.frame`). A smaller batch is filled up to the size of those before
    it. What comes so often that a program of its own pays gets one.

    Args:
      model: in evaluation mode.
      loss: weights and epsilon of `losses.bce_dice_loss`, for `with_losses`.
    """

    def __init__(self, model: nnx.Module, **loss: float):
        self._model = nnx.graphdef(model)
        graphdef, state = nnx.split(fold_batch_norms(model))
        mesh = data_mesh(jax.local_devices())
        self._replicated = replicated = NamedSharding(mesh, PartitionSpec())
        self._state = jax.device_put(state, replicated)
        self.smallest = model.smallest
        self._frames = model.frames
        self._programs = {True: set(), False: set()}
        self._waste = collections.Counter()
        shared = NamedSharding(mesh, PartitionSpec("data"))

        def probabilities(state, image):
            return jax.nn.sigmoid(nnx.merge(graphdef, state)(image))

        def framed(state, image, size):
            with frame(image.shape[1:3], size):
                return probabilities(state, image)

        def with_losses(state, image, label):
            logits = nnx.merge(graphdef, state)(image)
            each = jax.vmap(lambda x, y: bce_dice_loss(x[None], y[None], **loss))
            return jax.nn.sigmoid(logits), each(logits, label)

        # The image's buffer becomes the output's where they are alike.
        arguments = dict(model.spec.options)
        donate = (1,) if arguments["in_channels"] == arguments["classes"] else ()
        options = {"out_shardings": shared, "donate_argnums": donate}
        self._probabilities = jax.jit(probabilities, in_shardings=(replicated, shared), **options)
        self._framed = jax.jit(framed, in_shardings=(replicated, shared, replicated), **options)
        self._with_losses = jax.jit(
            with_losses, in_shardings=(replicated, shared, shared), out_shardings=shared
        )

    def load(self, state: nnx.State):
        """Takes other weights and statistics, a state of the model it was made with."""
        state = nnx.state(fold_batch_norms(nnx.merge(self._model, state)))
        self._state = jax.device_put(state, self._replicated)

    def _program(self, shape: tuple[int, int, int], frames: bool) -> Program:
        """The program to use for images of this shape: the smallest there is that holds them.

        What it wastes over one made for them, and over one for sizes near theirs, may at most come
        to what making that would cost: then it is made. So all takes at worst a few times as long
        as if it were known what is to come.
        """
        devices = jax.local_device_count()
        own = Program(-(-shape[0] // devices) * devices, *shape[1:], framed=False)
        size = frame_for(shape[1:]) if frames and min(shape[1:]) >= self.smallest else None
        near = own if size in (None, shape[1:]) else Program(own.batch, *size, framed=True)
        holding = (program for program in self._programs[frames] if program.holds(own))
        used = min(holding, key=Program.pixels, default=near)
        for better in dict.fromkeys((own, near)):
            waste = self._waste[better] + used.pixels() - better.pixels()
            if waste > PROGRAM_COST:
                used = better
                break
            self._waste[better] = max(0, waste)
        self._programs[frames].add(used)
        return used

    @staticmethod
    def _filled(images: np.ndarray, program: Program) -> np.ndarray:
        """Fills a batch up: with copies of its last image, and all with zeros beside them."""
        count, height, width, _ = images.shape
        images = np.pad(images, ((0, program.batch - count), *((0, 0),) * 3), "edge")
        beside = ((0, program.height - height), (0, program.width - width))
        return np.pad(images, ((0, 0), *beside, (0, 0)))

    def probabilities(self, images: np.ndarray, shared: bool = True) -> np.ndarray:
        """`[B, H, W, C]` float32 in [0, 1] to probabilities `[B, H, W, classes]` float32.

        Args:
          images: of one size.
          shared: whether a program that images of other sizes use too may do. Which one it is
            depends on what came before, and roundings on it.
        """
        count, height, width, _ = images.shape
        program = self._program((count, height, width), shared and self._frames)
        batch = self._filled(images, program)
        if program.framed:
            out = self._framed(self._state, batch, np.array((height, width), np.int32))
        else:
            out = self._probabilities(self._state, batch)
        return np.asarray(out)[:count, :height, :width]

    def with_losses(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities, and each image's own loss `[B]`, as the reference's batches of one have.

        `labels` is `[B, H, W, classes]`, 0 or 1.
        """
        program = self._program(images.shape[:3], frames=False)
        batches = (self._filled(part, program) for part in (images, labels))
        out = self._with_losses(self._state, *batches)
        return tuple(np.asarray(part)[: len(images)] for part in out)
