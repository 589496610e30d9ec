"""The check of a config, before anything is created."""

import math
from typing import NamedTuple

from ml_collections import ConfigDict

from eal_icnet_jax.configs import default
from eal_icnet_jax.models.registry import (
    LARGEST_CROP,
    LARGEST_WIRE_WIDTH,
    SMALLEST_CROP,
    are_percentiles,
)
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training.run_files import flat_config


class Range(NamedTuple):
    """The values that a knob may have, from `low` to `high`, without `low` itself if `above`.

    reason: added to the error message.
    """

    low: float
    high: float = math.inf
    above: bool = False
    reason: str = ""

    def holds(self, value: float) -> bool:
        is_inside = self.low <= value <= self.high and not (self.above and value == self.low)
        return is_inside and math.isfinite(value)

    def __str__(self):
        if self.high < math.inf:
            return f"it must be from {self.low} to {self.high}{self.reason}"
        return f"it must be {'above' if self.above else 'at least'} {self.low}{self.reason}"


LARGEST_SEED = 2**31 - 1

RANGES = {
    "seed": Range(0, LARGEST_SEED),
    "batch_size": Range(1),
    "epochs": Range(1),
    "learning_rate": Range(0, above=True),
    "gradient_clip_norm": Range(0, reason="; 0 means no clipping"),
    "loss.bce_weight": Range(0),
    "loss.dice_weight": Range(0),
    "loss.cldice_weight": Range(0),
    "loss.false_positive_weight": Range(0, 1),
    "loss.false_negative_weight": Range(0, 1),
    "loss.epsilon": Range(
        0, above=True, reason=", or the loss of images without foreground is not a number"
    ),
    "early_stopping.patience": Range(1),
    "early_stopping.min_delta": Range(0),
    "dataset.views": Range(1),
    "dataset.mixed_fraction": Range(0, 0.95),
    "dataset.ignore_value": Range(-1, 2**16 - 1, reason="; -1 means none"),
    "dataset.white": Range(0, 2**16 - 1, reason="; 0 means as the files state or show"),
    "augmentation.brightness": Range(0, 1),
    "augmentation.contrast": Range(0, 1),
    "augmentation.angle": Range(0, 180),
    "augmentation.colour": Range(0, 1),
    "augmentation.gamma": Range(1, 8),
    "augmentation.blur": Range(0, 100),
    "augmentation.noise": Range(0, 1),
    "augmentation.jpeg": Range(0, 100, reason="; 0 means no JPEG"),
    "augmentation.cutout": Range(0, 1),
    "preprocessing.wire_width": Range(0, LARGEST_WIRE_WIDTH, reason="; 0 means any"),
    "schedule.warmup_steps": Range(0),
    "average_decay": Range(0, 0.999999, reason="; 0 means no average"),
    "evaluation.batch_size": Range(1),
    "evaluation.threshold": Range(0, 1),
    "evaluation.pictures": Range(0),
    "workers": Range(0),
    "prefetch": Range(0),
    "log_every_steps": Range(1),
    "checkpoint_every_steps": Range(0, reason="; 0 means only after each epoch"),
}
"""The range of every numeric knob. NaN and infinity lie in none."""

BALANCED = "balanced"
"""The value of `config.loss.positive_weight` that stands for the training split's own balance."""

CHOICES = {
    "model.dtype": ("float32", "bfloat16"),
    "model.in_channels": (1, 3),
    "schedule.decay": ("constant", "cosine"),
}
"""Knobs that take one of a few values."""


def _has_type_of(value, default_value) -> bool:
    """Return whether a knob's value has the type of its default."""
    if isinstance(default_value, bool) or isinstance(value, bool):
        return isinstance(default_value, bool) and isinstance(value, bool | int)
    if isinstance(default_value, tuple | list):
        return isinstance(value, tuple | list)
    types = (int, float) if isinstance(default_value, float) else (type(default_value),)
    return isinstance(value, types)


def _check_keys(given: dict, known: dict):
    unknown = [key for key in given if key not in known and not key.startswith("model.options.")]
    missing = [key for key in known if key not in given]
    if unknown or missing:
        problems = [f"unknown key {key}" for key in unknown]
        problems += [f"missing key {key}" for key in missing]
        raise UserError(f"the config has {', '.join(problems)}: configs/default.py lists every key")


def _check_views(scale: tuple, angle: float, crop_size: int):
    """Raise a `UserError` if the random views of images make no sense."""
    numbers = all(isinstance(factor, int | float) for factor in scale)
    if not (numbers and len(scale) == 2 and 1 / 8 <= scale[0] <= scale[1] <= 8):
        raise UserError(
            f"config.augmentation.scale is {scale}: name the lowest and the highest factor, from "
            "0.125 to 8"
        )
    if not crop_size and (scale != (1, 1) or angle):
        name = "scale" if scale != (1, 1) else "angle"
        raise UserError(f"config.augmentation.{name} needs crops: set config.dataset.crop_size")


def _check_positive_weight(weight):
    """Raise a `UserError` unless the weight of foreground is a number above 0 or "balanced"."""
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if weight != BALANCED and not (is_number and Range(0, above=True).holds(weight)):
        raise UserError(
            f"config.loss.positive_weight is {weight!r}: it must be a number above 0, or "
            f"{BALANCED!r}"
        )


def check_config(config: ConfigDict):
    """Check every knob's name, type and range.

    Raises:
      UserError: names the knob, its value and what it may be.
    """
    known, given = flat_config(default.get_config()), flat_config(config)
    _check_keys(given, known)
    _check_positive_weight(given["loss.positive_weight"])
    for key, value in known.items():
        if key != "loss.positive_weight" and not _has_type_of(given[key], value):
            raise UserError(
                f"config.{key} is {given[key]!r}: it must be of type {type(value).__name__}, "
                f"such as {value!r}"
            )
    for key, allowed in RANGES.items():
        if not allowed.holds(given[key]):
            raise UserError(f"config.{key} is {given[key]}: {allowed}")
    for key, allowed in CHOICES.items():
        if given[key] not in allowed:
            choices = " or ".join(map(repr, allowed))
            raise UserError(f"config.{key} is {given[key]!r}: it must be {choices}")
    crop_size = given["dataset.crop_size"]
    if crop_size != 0 and not SMALLEST_CROP <= crop_size <= LARGEST_CROP:
        raise UserError(
            f"config.dataset.crop_size is {crop_size}: it must be {SMALLEST_CROP} to "
            f"{LARGEST_CROP}, or 0 for whole images"
        )
    _check_views(tuple(given["augmentation.scale"]), given["augmentation.angle"], crop_size)
    stretch = tuple(given["preprocessing.stretch"])
    if stretch and not are_percentiles(stretch):
        raise UserError(
            f"config.preprocessing.stretch is {stretch}: name two percentiles from 0 to 100, such "
            "as (0.5, 99.5), or ()"
        )
    if not given["dataset.labels"]:
        raise UserError("config.dataset.labels is empty: name at least one label")
