"""A network on the tiny dataset, by default EAL-ICNet of two DAB modules, with dropout so that
random numbers are part of what is compared: the path in seconds."""

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
    """The config, with the dataset that was prepared there."""
    config = get_config()
    config.dataset.data_dir = str(data_dir)
    return config
