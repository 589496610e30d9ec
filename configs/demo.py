"""Small training on drawn optical micrographs: 256x256 crops, a few minutes on two CPU cores."""

from eal_icnet_jax.configs import synthetic


def get_config():
    config = synthetic.get_config()
    config.dataset.crop_size = 256
    config.batch_size = 2
    config.epochs = 3
    config.log_every_steps = 50
    return config
