"""The paper's training on OMV: optical micrographs, vias labelled."""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "omv"
    return config
