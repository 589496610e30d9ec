"""Every config names knobs that exist, a model and a dataset that exist, and labels it has."""

import importlib
import pathlib

import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax import command_line, cost, input_pipeline, models, train

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_config(name):
    config = importlib.import_module(f"eal_icnet_jax.configs.{name}").get_config()
    train.check_config(config)
    assert config.is_locked
    assert config.model.name in models.MODELS
    features = input_pipeline.dataset_builder(config.dataset).info.features
    assert set(config.dataset.labels) <= set(features)


def test_the_default_is_the_papers_training():
    config = importlib.import_module("eal_icnet_jax.configs.default").get_config()
    assert (config.batch_size, config.epochs, config.learning_rate) == (1, 30, 1e-3)
    assert (config.early_stopping.patience, config.early_stopping.min_delta) == (5, 1e-7)
    assert dict(config.loss) == {"bce_weight": 0.5, "dice_weight": 0.5, "epsilon": 1e-6}


@pytest.mark.parametrize("name", ["omc", "omv", "miic", "hy5syn"])
def test_the_papers_datasets_are_trained_as_the_default_says(name):
    default = importlib.import_module("eal_icnet_jax.configs.default").get_config()
    config = importlib.import_module(f"eal_icnet_jax.configs.{name}").get_config()
    assert config.dataset.name == name
    with default.unlocked(), config.unlocked():
        del default.dataset, config.dataset
    assert config == default


def test_cross_trains_on_the_other_three():
    cross = importlib.import_module("eal_icnet_jax.configs.cross")
    for name in cross.DATASETS:
        dataset = cross.get_config(name).dataset
        assert dataset.name == name
        assert {name, *dataset.train_on} == {"omc", "omv", "miic", "hy5syn"}
        assert len(dataset.train_on) == 3
    with pytest.raises(ValueError, match="no dataset 'omq' to test on: choose one of omc"):
        cross.get_config("omq")


def test_shipped_configs_are_found_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("omv.py", "cross.py:omv"):
        assert command_line.packaged(f"--config=configs/{name}") == f"--config={FOLDER / name}"
    assert command_line.packaged("--config=configs/mine.py") == "--config=configs/mine.py"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "cross.py").touch()
    assert command_line.packaged("--config=configs/cross.py:omv") == "--config=configs/cross.py:omv"


def test_ablations_are_what_they_say():
    """Each builds a network, with the parameters that are left."""
    ablation = importlib.import_module("eal_icnet_jax.configs.ablation")
    counts = {}
    for name in ablation.ABLATIONS:
        config = ablation.get_config(name)
        train.check_config(config)
        model = models.blank_model("eal_icnet", **config.model.options)
        assert nnx.eval_shape(lambda m, x: m(x), model, np.ones((1, 64, 64, 1))).shape[-1] == 1
        counts[name] = cost.parameters(model)
    whole = 802_698
    assert counts["dilations_1_3_5"] == counts["dilations_2_4_6"] == whole
    assert counts["dilations_1_2_3"] == whole
    # A module: BNPReLU of n, a 3x3 to n/2, four depthwise filters of three taps with their
    # BNPReLU, one more of n/2, a 1x1 to n.
    module = {
        n: 3 * n + 9 * n * n // 2 + 3 * n // 2 + 4 * 3 * n + 3 * n // 2 + n * n // 2
        for n in (64, 128)
    }
    assert whole - counts["without_dab_block_1"] == 3 * module[64]
    assert whole - counts["without_dab_block_2"] == 6 * module[128]
    assert whole - counts["without_dilated_branch"] == 2 * 3 * (3 * 64 + 6 * 128)
    assert whole - counts["without_tssa"] == 8 + 2 * 128 * 128 + 128
    assert whole - counts["without_position_attention"] == 2 * 129 * 16 + 129 * 128 + 1
    with pytest.raises(
        ValueError, match="no ablation 'nothing': choose one of without_dab_block_1"
    ):
        ablation.get_config("nothing")
