"""Training of the paper on HY5SYN: crops of scanning electron micrographs, masks of the tracks.

`--config.dataset.config=grid` leaves out the overlapping crops, and
`--config.dataset.labels='("label","via_label")'` predicts the vias as a second output.
"""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "hy5syn"
    config.dataset.config = "covering"
    return config
