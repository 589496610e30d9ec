"""The paper's training on OMC: optical micrographs, circuits labelled."""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "omc"
    return config
