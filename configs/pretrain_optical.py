"""Training of the packaged weights `optical`: drawn photographs of an optical microscope.

With --config.dataset.manual_dir=DIR, half of them show the real layouts whose masks lie there.
"""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "ic_synthetic"
    config.dataset.config = "optical_photographs"
    config.dataset.labels = ("label", "via_label")
    config.dataset.crop_size = 384
    config.model.in_channels = 3
    config.preprocessing.stretch = (0.5, 99.5)
    config.preprocessing.wire_width = 20.0
    config.augmentation.flip = True
    config.augmentation.rotate = True
    config.augmentation.brightness = 0.1
    config.augmentation.contrast = 0.2
    config.augmentation.scale = (0.6, 1.8)
    config.augmentation.angle = 4.0
    config.augmentation.colour = 0.15
    config.augmentation.gamma = 1.4
    config.loss.per_label = True
    config.batch_size = 8
    config.epochs = 6
    config.learning_rate = 2e-3
    config.gradient_clip_norm = 1.0
    config.schedule.warmup_steps = 100
    config.schedule.decay = "cosine"
    config.average_decay = 0.998
    config.early_stopping.patience = 100
    config.checkpoint_every_steps = 100
    config.log_every_steps = 50
    return config
