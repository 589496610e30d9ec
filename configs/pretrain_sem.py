"""Training of the packaged weights `sem`: drawn photographs of a scanning electron microscope.

With --config.dataset.manual_dir=DIR, half of them show the real layouts whose masks lie there.
"""

from eal_icnet_jax.configs import pretrain_optical


def get_config():
    config = pretrain_optical.get_config()
    config.dataset.config = "sem_photographs"
    config.model.in_channels = 1
    return config
