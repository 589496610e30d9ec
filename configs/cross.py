"""Cross-dataset test of the paper: train on three of its datasets, test on the fourth.

`--config=configs/cross.py:omv` tests on OMV. Each dataset must be prepared, or its files must be in
a folder of its name in `--config.dataset.manual_dir`.
"""

from eal_icnet_jax.configs import default

DATASETS = ("omc", "hy5syn", "miic", "omv")


def get_config(test_on: str = "omc"):
    if test_on not in DATASETS:
        raise ValueError(f"no dataset {test_on!r} to test on: choose one of {', '.join(DATASETS)}")
    config = default.get_config()
    config.dataset.name = test_on
    config.dataset.train_on = tuple(name for name in DATASETS if name != test_on)
    return config
