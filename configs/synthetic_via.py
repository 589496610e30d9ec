"""Training on drawn optical micrographs with masks of the vias."""

from eal_icnet_jax.configs import synthetic


def get_config():
    config = synthetic.get_config()
    config.dataset.config = "optical_via"
    return config
