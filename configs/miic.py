"""Training of the paper on MIIC: scanning electron micrographs with masks of the circuits."""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "miic"
    return config
