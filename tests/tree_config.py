"""A config of the paper with a network of two DAB modules: `tests/tree_config.py:omv`.

An argument of the config follows its name: `tests/tree_config.py:cross-omv`.
"""

import importlib


def get_config(name: str):
    name, _, argument = name.partition("-")
    module = importlib.import_module(f"eal_icnet_jax.configs.{name}")
    config = module.get_config(*([argument] if argument else []))
    config.epochs = 2
    config.log_every_steps = 10
    config.evaluation.pictures = 1
    config.dataset.allow_empty_labels = True  # the splits of drawn folders hold one image or two
    with config.unlocked():
        config.model.options.block_1_dilations = (2,)
        config.model.options.block_2_dilations = (4,)
    return config
