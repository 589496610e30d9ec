"""Training on drawn optical micrographs with masks of the metal."""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "ic_synthetic"
    config.dataset.config = "optical_circuit"
    config.augmentation.flip = True
    config.augmentation.rotate = True
    config.augmentation.brightness = 0.1
    config.augmentation.contrast = 0.2
    return config
