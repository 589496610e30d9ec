"""A project: corrected squares of photographs to train on, and the models of each round.

DIR/train/image, label, via_label, ignore    what was corrected, by equal names
DIR/models/001, 002, ...                      a work directory for each round of training
DIR/models/current.json                       which of them is in use, and which were before
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from eal_icnet_jax.configs import finetune
from eal_icnet_jax.data import paired_folders, tfds_builder, transforms
from eal_icnet_jax.imaging import mosaic_files, pixel_values, stretching
from eal_icnet_jax.inference.prediction_models import is_coloured
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_written, write_atomically

VIEWS_IN_AN_EPOCH = 300
"""Number of views of the squares in an epoch, apart from drawn images, whatever their number."""

FULL_RATE_ERROR = 0.2
"""Error of a network on the squares (`Project.error`) from which on it learns at the full rate.
Below it, the rate falls with the square of the error."""

LEAST_RATE = 0.1
"""Smallest part of the full learning rate, for a network that is right everywhere."""

SMALLEST_CROP, LARGEST_CROP = 32, 256
"""Smallest and largest side in pixels of the crops. It is a multiple of the smallest."""

LAYOUTS = (paired_folders.FolderLayout(),)
"""Form of the folder `train`."""


class Recipe(NamedTuple):
    """How a round is trained.

    config: file of the config, with its argument.
    flags: that change it.
    error: of the network on the squares before the round (`Project.error`).
    """

    config: str
    flags: list[str]
    error: float


class Project:
    """A project's folder.

    Args:
      path: of the folder, which holds `train`.

    Raises:
      UserError: it holds no folder `train`. What reads the squares raises it too, if they cannot be
        used.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        if not (path / "train").is_dir():
            raise UserError(
                f"{path} has no folder train: put squares into {path}/train/image and their labels "
                f"into {path}/train/label, with equal names"
            )

    @functools.cached_property
    def pairs(self) -> tuple[paired_folders.Pair, ...]:
        """The squares."""
        return paired_folders.find_split_pairs(self.path, LAYOUTS).splits["train"]

    @property
    def has_vias(self) -> bool:
        """Whether the squares have masks of vias."""
        return all(pair.via for pair in self.pairs)

    def digest(self) -> str:
        """Return the SHA-256 of the squares."""
        return tfds_builder.files_digest(self.pairs)

    def suitable_weights(self) -> str:
        """Return the packaged weights that suit the squares: "optical" or "sem"."""
        image = mosaic_files.open_mosaic(self.pairs[0].image)
        return "optical" if is_coloured(image) else "sem"

    @property
    def _models(self) -> pathlib.Path:
        return self.path / "models"

    @property
    def _record(self) -> pathlib.Path:
        return self._models / "current.json"

    def rounds(self) -> list[pathlib.Path]:
        """Return the work directories of all rounds, the oldest first."""
        if not self._models.is_dir():
            return []
        return sorted(path for path in self._models.iterdir() if path.name.isdecimal())

    def finished_rounds(self) -> list[pathlib.Path]:
        """Return the work directories of the rounds that ended."""
        return [path for path in self.rounds() if (path / "test" / "metrics.json").exists()]

    def current_model(self) -> pathlib.Path | None:
        """Return the work directory of the model in use; None if it is the one before any round.

        Raises:
          UserError: the record of it is damaged.
        """
        return self._used()[-1]

    def _used(self) -> list[pathlib.Path | None]:
        """Return the models that going back passes, that in use last. None is before any round."""
        if not self._record.exists():
            return [None]
        try:
            names = json.loads(self._record.read_text())["used"]
            used = [None if name is None else self._models / f"{int(name):03}" for name in names]
            if not used:
                raise ValueError("it names no model")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self._record} is damaged: remove it to use the model before any round"
            ) from error
        finished = [None, *self.finished_rounds()]
        for path in used:
            if path not in finished:
                raise UserError(
                    f"{self._record} names {path}, which is no finished round: remove it"
                )
        return used

    def use(self, model: pathlib.Path):
        """Make a finished round the model in use."""
        self._write_used([*self._used(), model])

    def _write_used(self, used: list[pathlib.Path | None]):
        try:
            self._models.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_be_written(self._models, error) from error
        names = [None if path is None else path.name for path in used]
        write_atomically(self._record, json.dumps({"used": names}) + "\n")

    def go_back(self) -> pathlib.Path | None:
        """Use the model that was in use before, and return it; None is the one before any round.

        Raises:
          UserError: there is none before it.
        """
        before = self._used()[:-1]
        if not before:
            raise UserError(f"{self.path} uses the model before any round: nothing lies before it")
        self._write_used(before)
        return before[-1]

    def next_round(self, choices: Sequence[str]) -> tuple[pathlib.Path, bool]:
        """Return the work directory of the next round, and whether it was begun and stopped.

        A round that was stopped goes on only if the squares and the choices are still the same.

        Args:
          choices: the checkpoint that the training starts from, and what the user says of its
            config.
        """
        rounds = self.rounds()
        digest = hashlib.sha256("\0".join([self.digest(), *choices]).encode()).hexdigest()
        if rounds and rounds[-1] not in self.finished_rounds():
            squares = rounds[-1] / "squares.txt"
            if squares.exists() and squares.read_text() == digest:
                return rounds[-1], True
        path = self._models / f"{int(rounds[-1].name) + 1 if rounds else 1:03}"
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise cannot_be_written(path, error) from error
        write_atomically(path / "squares.txt", digest)
        return path, False

    def error(self, model: Network, labels: tuple[str, ...]) -> float:
        """Return how wrong a network is on the squares before it has learned from them, in [0, 1].

        It is 1 - IoU of the pixels that count, the mean of the masks that have any foreground. The
        network sees the squares as in a validation: stretched and magnified as it was trained.

        Args:
          model: whose outputs are the masks.
          labels: names of the masks.

        Raises:
          UserError: a file cannot be read, or the files of a square differ in size.
        """
        predictor = Predictor(model)
        both, either = np.zeros(len(labels)), np.zeros(len(labels))
        for example in self._examples(model, labels):
            found = predictor.probabilities(example["image"][None])[0, ..., : len(labels)] >= 0.5
            found &= example["valid"]
            both += (found & example["label"]).sum((0, 1))
            either += (found | example["label"]).sum((0, 1))
        return float(np.mean(1 - both[either > 0] / either[either > 0])) if either.any() else 0.0

    def _error_before(
        self, workdir: pathlib.Path, model: Network, labels: tuple[str, ...]
    ) -> float:
        """Return the error before a round: that which was measured when it began, if it goes on."""
        record = workdir / "error.txt"
        try:
            return float(record.read_text())
        except (OSError, ValueError):
            error = self.error(model, labels)
        try:
            write_atomically(record, f"{error}\n")
        except OSError as cause:
            raise cannot_be_written(record, cause) from cause
        return error

    def _examples(self, model: Network, labels: tuple[str, ...]) -> Iterator[dict]:
        """Yield the squares as a network sees them in a validation, see `transforms.Decode`."""
        channels, smallest = dict(model.spec.options)["in_channels"], model.smallest
        reader, form = paired_folders.SourceFormat(channels=channels), model.spec.preprocessing
        white = paired_folders.common_white(pair.image for pair in self.pairs)
        for pair in self.pairs:
            square = reader.read(pair, unstated_white=white)
            if min(square.image.shape[:2]) < smallest:
                raise UserError(f"{pair.image} is smaller than {smallest}x{smallest}: remove it")
            image = square.image if channels > 1 else square.image[..., 0]
            example = {
                "image": pixel_values.to_unit_range(
                    stretching.stretch(image, form.stretch), channels
                ),
                "label": np.stack([square.masks[label] for label in labels], -1),
                "valid": ~square.ignored[..., None],
                "name": pair.name,
            }
            if form.crop_size:
                example = transforms.CentreView(form.crop_size, form.wire_width)(example)
            yield example

    def _crop(self) -> int:
        """Return the side in pixels of the crops: as large as the smallest square allows."""
        sides = (min(mosaic_files.open_mosaic(pair.image).shape) for pair in self.pairs)
        return min(LARGEST_CROP, max(SMALLEST_CROP, min(sides) // SMALLEST_CROP * SMALLEST_CROP))

    def recipe(self, workdir: pathlib.Path, checkpoint: str) -> Recipe:
        """Return how a round is trained.

        The learning rate follows how wrong the network is on the squares: at the full rate, one
        that is right nearly everywhere would lose more than it learns.

        Args:
          workdir: of the round.
          checkpoint: that the training starts from.

        Raises:
          UserError: it cannot be read, or a square cannot.
        """
        model = checkpoints.load_model(checkpoint)
        spec, options = model.spec, dict(model.spec.options)
        weights = "optical" if options["in_channels"] == 3 else "sem"
        labels = ("label", "via_label")
        if not self.has_vias or len(spec.output_names) < 2:
            labels = ("label",)
        error = self._error_before(workdir, model, labels)
        part = np.clip((error / FULL_RATE_ERROR) ** 2, LEAST_RATE, 1)
        rate = part * finetune.get_config(weights).learning_rate
        views = max(1, round(VIEWS_IN_AN_EPOCH / len(self.pairs)))
        flags = [
            f"--config.model.checkpoint={checkpoint}",
            f"--config.model.name={spec.name}",
            f"--config.dataset.manual_dir={self.path}",
            f"--config.dataset.data_dir={workdir / 'data'}",
            f"--config.dataset.labels={labels!r}",
            f"--config.dataset.views={views}",
            f"--config.learning_rate={rate:.2g}",
            "--config.dataset.allow_empty_labels=True",  # few squares may have no via
            "--config.preprocessing.stretch=()",
            "--config.preprocessing.wire_width=0",
            f"--config.dataset.crop_size={min(spec.preprocessing.crop_size or 256, self._crop())}",
        ]
        return Recipe(f"configs/finetune.py:{weights}", flags, error)
