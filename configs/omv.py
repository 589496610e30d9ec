"""Training of the paper on OMV: optical micrographs with masks of the vias."""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "omv"
    return config
