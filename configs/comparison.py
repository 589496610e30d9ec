"""Comparison of all networks, 300 steps on 256x256 crops each: two hours on two CPU cores."""

from eal_icnet_jax.configs import synthetic


def get_config():
    config = synthetic.get_config()
    config.dataset.crop_size = 256
    config.dataset.splits.train = "train[:100]"
    config.dataset.splits.validation = "validation[:10]"
    config.dataset.splits.test = "test[:30]"
    config.epochs = 3
    config.log_every_steps = 50
    return config
