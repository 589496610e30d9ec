"""Training on drawn electron micrographs with masks of the metal."""

from eal_icnet_jax.configs import synthetic


def get_config():
    config = synthetic.get_config()
    config.dataset.config = "sem_circuit"
    return config
