"""The paper's training on MIIC: scanning electron micrographs, circuits labelled."""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "miic"
    return config
