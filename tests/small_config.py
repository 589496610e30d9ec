"""A network of two DAB modules on the tiny dataset: the whole path in seconds."""

from eal_icnet_jax.configs import synthetic


def get_config():
    config = synthetic.get_config()
    config.dataset.config = "tiny"
    config.epochs = 3
    config.log_every_steps = 1
    config.checkpoint_every_steps = 3
    config.evaluation.pictures = 1
    with config.unlocked():
        config.model.options.block_1_dilations = (2,)
        config.model.options.block_2_dilations = (4,)
    return config
