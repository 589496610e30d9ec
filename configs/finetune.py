"""A few labelled crops of your own photographs: the packaged weights, trained further for minutes.

    eal-icnet train --config=configs/finetune.py:optical --config.dataset.manual_dir=DIR

The argument names the packaged weights, optical or sem. DIR holds train/image and train/label,
perhaps train/via_label and train/ignore, and no other split: with so few images, validation and
test look at the same ones, so that their figures say only whether the network has learned them. A
quarter of the training images are drawn ones. `eal-icnet finetune` uses this config.
"""

from eal_icnet_jax.configs import pretrain_optical, pretrain_sem

WEIGHTS = {"optical": (pretrain_optical, "omc"), "sem": (pretrain_sem, "miic")}
"""For each of the packaged weights the config of their training, and a dataset of such images."""


def get_config(weights="optical"):
    if weights not in WEIGHTS:
        raise ValueError(f"no packaged weights {weights!r}: choose one of {', '.join(WEIGHTS)}")
    training, dataset = WEIGHTS[weights]
    config = training.get_config()
    config.model.checkpoint = weights
    config.dataset.name = dataset
    config.dataset.config = ""
    config.dataset.labels = ("label",)
    config.dataset.splits.validation = "train"
    config.dataset.splits.test = "train"
    config.dataset.crop_size = 256
    config.dataset.views = 75
    config.dataset.mixed = f"ic_synthetic/few_{weights}_photographs"
    config.dataset.mixed_fraction = 0.25
    config.augmentation.scale = (0.7, 1.4)
    config.augmentation.blur = 1.0
    config.augmentation.noise = 0.04
    config.augmentation.jpeg = 50
    config.augmentation.cutout = 0.3
    config.epochs = 4
    config.learning_rate = 2e-3
    config.schedule.warmup_steps = 20
    config.average_decay = 0.98
    return config
