"""Training on drawn electron micrographs, with metal and vias as two outputs."""

from eal_icnet_jax.configs import synthetic


def get_config():
    config = synthetic.get_config()
    config.dataset.config = "sem_metal_via"
    config.dataset.labels = ("label", "via_label")
    return config
