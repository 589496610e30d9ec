"""A wrong config is reported in one sentence, before anything is created."""

import math

import pytest

from eal_icnet_jax.configs import default
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import config_check, runs
from eal_icnet_jax.training.run_files import flat_config
from tests import small_config


def changed_config(changes):
    """Return the small config with knobs of any value, and options that it did not have."""
    config = small_config.get_config()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(changes)
    return config


def error_of(config) -> str:
    with pytest.raises(UserError) as error:
        config_check.check_config(config)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", 0, "config.epochs is 0: it must be at least 1"),
        ("epochs", 2.5, "config.epochs is 2.5: it must be of type int, such as 30"),
        (
            "early_stopping.patience",
            0,
            "config.early_stopping.patience is 0: it must be at least 1",
        ),
        ("seed", -1, "config.seed is -1: it must be from 0 to 2147483647"),
        ("seed", 2**31, "config.seed is 2147483648: it must be from 0 to 2147483647"),
        ("workers", -1, "config.workers is -1: it must be at least 0"),
        ("learning_rate", 0.0, "config.learning_rate is 0.0: it must be above 0"),
        ("gradient_clip_norm", -1.0, "it must be at least 0; 0 means no clipping"),
        ("loss.epsilon", 0.0, "it must be above 0, or the loss of images without foreground"),
        ("loss.positive_weight", 0, "loss.positive_weight is 0: it must be a number above 0, or"),
        ("loss.positive_weight", "even", "is 'even': it must be a number above 0, or 'balanced'"),
        ("loss.positive_weight", True, "is True: it must be a number above 0, or 'balanced'"),
        ("loss.false_negative_weight", 1.5, "it must be from 0 to 1"),
        ("dataset.ignore_value", -2, "it must be from -1 to 65535; -1 means none"),
        ("evaluation.threshold", 1.5, "config.evaluation.threshold is 1.5: it must be from 0 to 1"),
        ("model.dtype", "bf16", "config.model.dtype is 'bf16': it must be 'float32' or 'bfloat16'"),
        ("model.in_channels", 2, "config.model.in_channels is 2: it must be 1 or 3"),
        ("dataset.crop_size", 16, "config.dataset.crop_size is 16: it must be 32 to 16384, or 0"),
        ("dataset.crop_size", 20000, "it must be 32 to 16384, or 0"),
        ("dataset.crop_size", -1, "config.dataset.crop_size is -1: it must be 32 to 16384, or 0"),
        ("dataset.labels", (), "config.dataset.labels is empty: name at least one label"),
        ("dataset.labels", "label", "it must be of type tuple, such as ('label',)"),
        ("augmentation.flip", 2.0, "config.augmentation.flip is 2.0: it must be of type bool"),
        ("model.options.heads", 0, "model eal_icnet cannot be built with"),
        ("model.options.width", 3, "model eal_icnet has no option width"),
        ("model.name", "unet3", "unknown model 'unet3': choose one of eal_icnet"),
        (
            "optimiser",
            "sgd",
            "the config has unknown key optimiser: configs/default.py lists every",
        ),
    ],
)
def test_a_wrong_value_is_reported_before_anything_is_created(tmp_path, key, value, message):
    config = changed_config({"dataset.data_dir": str(tmp_path / "data"), key: value})
    with pytest.raises(UserError) as error:
        runs.train(config, tmp_path / "run")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_knob_is_reported():
    config = small_config.get_config()
    with config.unlocked():
        del config.loss.epsilon
    assert "the config has missing key loss.epsilon" in error_of(config)


@pytest.mark.parametrize("key", [*config_check.RANGES, "dataset.crop_size", "model.in_channels"])
def test_nan_is_in_no_range(key):
    assert f"config.{key} is nan: it must be" in error_of(changed_config({key: math.nan}))


def test_every_number_among_the_knobs_is_checked():
    numbers = {
        key
        for key, value in flat_config(default.get_config()).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    elsewhere = {"dataset.crop_size", "model.in_channels", "loss.positive_weight"}
    assert numbers == {*config_check.RANGES, *elsewhere}


def test_the_ends_of_the_ranges_are_allowed():
    changes = {
        "seed": 2**31 - 1,
        "learning_rate": 1,
        "evaluation.threshold": 1.0,
        "augmentation.contrast": 1.0,
        "dataset.crop_size": 32,
        "model.in_channels": 3,
        "model.dtype": "bfloat16",
    }
    config_check.check_config(changed_config(changes))
