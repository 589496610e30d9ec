"""A training of seconds on the tiny dataset, by default of EAL-ICNet with two DAB modules.

Its dropout makes random numbers part of what tests compare.
"""

from eal_icnet_jax.configs import synthetic


def get_config(model="eal_icnet"):
    config = synthetic.get_config()
    config.dataset.config = "tiny"
    config.epochs = 3
    config.log_every_steps = 1
    config.checkpoint_every_steps = 3
    config.evaluation.pictures = 1
    config.model.name = model
    if model == "eal_icnet":
        with config.unlocked():
            config.model.options.block_1_dilations = (2,)
            config.model.options.block_2_dilations = (4,)
            config.model.options.dropout = 0.1
    return config


def on(data_dir):
    """Return the config with the dataset that is prepared in `data_dir`."""
    config = get_config()
    config.dataset.data_dir = str(data_dir)
    return config
