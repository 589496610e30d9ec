"""The arguments of the loss that a config names, with the balance of the training split."""

import grain
import numpy as np
from ml_collections import ConfigDict

from eal_icnet_jax.data import prepared_datasets
from eal_icnet_jax.data.transforms import DecodeMasks
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training.config_check import BALANCED


def loss_arguments(config: ConfigDict) -> dict:
    """Return the keyword arguments of `bce_dice_loss` that a config names.

    Raises:
      UserError: the weight of foreground is to be balanced, and a label has no foreground, or no
        background, in the whole training split; or that cannot be read.
    """
    arguments = dict(config.loss)
    if arguments["positive_weight"] == BALANCED:
        arguments["positive_weight"] = balanced_weights(config.dataset)
    return arguments


def balanced_weights(dataset: ConfigDict) -> tuple[float, ...]:
    """Return for each label the area of background divided by that of foreground.

    Ignored pixels count for neither. All masks of the training split are read.

    Args:
      dataset: `config.dataset`.
    """
    labels = tuple(dataset.labels)
    source = prepared_datasets.open_split(dataset, "train")
    examples = grain.MapDataset.source(source).map(DecodeMasks(labels))
    foreground, counted = np.zeros(len(labels)), 0
    for example in examples.to_iter_dataset(grain.ReadOptions(num_threads=2)):
        foreground += example["label"].sum((0, 1))
        counted += int(example["valid"].sum())
    for label, area in zip(labels, foreground, strict=True):
        if not 0 < area < counted:
            kind = "background" if area else "foreground"
            raise UserError(
                f"config.loss.positive_weight is {BALANCED!r}, but {label} has no {kind} in the "
                "training split: name a number instead"
            )
    return tuple(float(weight) for weight in (counted - foreground) / foreground)
