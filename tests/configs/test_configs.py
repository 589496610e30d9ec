"""Every config names existing knobs, an existing model and dataset, and labels that it has."""

import importlib
import pathlib

import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.commands import config_arguments
from eal_icnet_jax.data import prepared_datasets
from eal_icnet_jax.models import checkpoints, cost
from eal_icnet_jax.training import config_check

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_config_can_be_used(name):
    config = importlib.import_module(f"eal_icnet_jax.configs.{name}").get_config()
    config_check.check_config(config)
    assert config.is_locked
    assert config.model.name in models.MODELS
    features = prepared_datasets.dataset_builder(config.dataset).info.features
    assert set(config.dataset.labels) <= set(features)


def test_the_default_is_the_training_of_the_paper():
    config = importlib.import_module("eal_icnet_jax.configs.default").get_config()
    assert (config.batch_size, config.epochs, config.learning_rate) == (1, 30, 1e-3)
    assert (config.early_stopping.patience, config.early_stopping.min_delta) == (5, 1e-7)
    weights = {"bce_weight": 0.5, "dice_weight": 0.5, "cldice_weight": 0.0, "per_label": False}
    tversky = {"false_positive_weight": 0.5, "false_negative_weight": 0.5}  # is the Dice loss
    assert dict(config.loss) == {**weights, **tversky, "positive_weight": 1.0, "epsilon": 1e-6}
    assert (config.schedule.warmup_steps, config.schedule.decay) == (0, "constant")
    assert config.average_decay == 0
    assert not config.preprocessing.stretch and not config.preprocessing.wire_width
    unchanged = {"scale": (1, 1), "gamma": 1}
    for name, value in config.augmentation.items():
        assert value == unchanged.get(name, 0), name


@pytest.mark.parametrize("name", ["omc", "omv", "miic", "hy5syn"])
def test_configs_of_the_paper_differ_from_the_default_only_in_the_dataset(name):
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


def test_fine_tuning_suits_the_weights_that_it_names():
    finetune = importlib.import_module("eal_icnet_jax.configs.finetune")
    for name in finetune.WEIGHTS:
        config = finetune.get_config(name)
        options = dict(checkpoints.load_model(name).spec.options)
        assert config.model.in_channels == options["in_channels"]
        assert config.dataset.mixed == f"ic_synthetic/few_{name}_photographs"
    with pytest.raises(ValueError, match="no packaged weights 'xray': choose one of optical, sem"):
        finetune.get_config("xray")


def test_shipped_configs_are_found_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pathlib.Path(config_arguments.packaged("configs/omv.py")).samefile(FOLDER / "omv.py")
    path, _, argument = config_arguments.packaged("configs/cross.py:omv").partition(":")
    assert pathlib.Path(path).samefile(FOLDER / "cross.py") and argument == "omv"
    assert config_arguments.packaged("configs/mine.py") == "configs/mine.py"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "cross.py").touch()
    assert config_arguments.packaged("configs/cross.py:omv") == "configs/cross.py:omv"


def test_ablations_remove_the_parameters_of_their_parts():
    ablation = importlib.import_module("eal_icnet_jax.configs.ablation")
    counts = {}
    for name in ablation.ABLATIONS:
        config = ablation.get_config(name)
        config_check.check_config(config)
        model = models.blank_model("eal_icnet", **config.model.options)
        assert nnx.eval_shape(lambda m, x: m(x), model, np.ones((1, 64, 64, 1))).shape[-1] == 1
        counts[name] = cost.parameters(model)
    complete = 802_698
    assert counts["dilations_1_3_5"] == counts["dilations_2_4_6"] == complete
    assert counts["dilations_1_2_3"] == complete
    # Parameters of a module of n channels: BNPReLU of n, a 3x3 convolution to n/2, four depthwise
    # filters of three taps with their BNPReLU, another BNPReLU of n/2, a 1x1 convolution to n.
    module = {
        n: 3 * n + 9 * n * n // 2 + 3 * n // 2 + 4 * 3 * n + 3 * n // 2 + n * n // 2
        for n in (64, 128)
    }
    assert complete - counts["without_dab_block_1"] == 3 * module[64]
    assert complete - counts["without_dab_block_2"] == 6 * module[128]
    assert complete - counts["without_dilated_branch"] == 2 * 3 * (3 * 64 + 6 * 128)
    assert complete - counts["without_tssa"] == 8 + 2 * 128 * 128 + 128
    assert complete - counts["without_position_attention"] == 2 * 129 * 16 + 129 * 128 + 1
    with pytest.raises(
        ValueError, match="no ablation 'nothing': choose one of without_dab_block_1"
    ):
        ablation.get_config("nothing")
