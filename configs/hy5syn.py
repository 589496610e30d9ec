"""The paper's training on HY5SYN: crops of scanning electron micrographs, metal tracks labelled.

`--config.dataset.config=grid` leaves out the crops that overlap, and
`--config.dataset.labels='("label","via_label")'` predicts vias as a second output.
"""

from eal_icnet_jax.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "hy5syn"
    config.dataset.config = "covering"
    return config
