"""The training loop: early stopping, fine-tuning, and losses that are not finite."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training.trainer import Trainer, create_model
from tests import small_config, trainings


@pytest.fixture
def config(data_dir):
    return small_config.on(data_dir)


def test_training_stops_early(config, tmp_path, capsys):
    """With a min_delta that no epoch reaches, patience 1 ends the run after its second epoch."""
    config.early_stopping.patience, config.early_stopping.min_delta = 1, 1e9
    Trainer(config, tmp_path).run()
    assert [record["epoch"] for record in trainings.epochs(tmp_path)] == [1, 2]
    assert "stopped early: 1 epochs without gain" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    config, workdir_copy
):
    config.epochs = 4
    trainer = Trainer(config, workdir_copy)
    poisoned = jax.tree.map(lambda array: array * np.nan, trainer.state.params)
    trainer.state = trainer.state._replace(params=poisoned)
    names = ", ".join(trainer.batches.names(24))
    message = (
        f"the loss of step 25 became NaN or infinite on images {names}; the checkpoint of step 24"
    )
    with pytest.raises(UserError, match=message):
        trainer.run()
    assert trainings.steps(workdir_copy)[-1] == 24
    assert all(np.isfinite(value).all() for value in trainings.weights(workdir_copy, 24).values())


def test_an_image_that_is_not_finite_is_named_at_its_step(config, tmp_path):
    """Also where no step is logged and no checkpoint is written."""
    config.log_every_steps = 100
    trainer = Trainer(config, tmp_path)
    train_step, batches = trainer.train_step, []

    def poisoned(state, batch):
        batches.append(batch)
        if len(batches) == 3:
            batch = {**batch, "image": batch["image"] * np.inf}
        return train_step(state, batch)

    trainer.train_step = poisoned
    (name,) = trainer.batches.names(2)
    message = f"the loss of step 3 became NaN or infinite on images {name}; there is no checkpoint"
    with pytest.raises(UserError, match=message):
        trainer.run()
    assert len(batches) <= 4, "the run went on"


def test_fine_tuning_starts_from_a_checkpoint(config, workdir, tmp_path):
    config.model.checkpoint = str(workdir)
    trainer = Trainer(config, tmp_path)
    best = int(checkpoints.resolve(workdir).name)
    weights = trainer.state.weights()
    trainings.assert_equal(weights, trainings.weights(workdir, best))
    assert int(trainer.state.step) == 0


def test_packaged_weights_are_trained_further_on_metal_alone(config, capsys):
    config.model.checkpoint, config.model.options = "sem", ConfigDict()
    config.dataset.crop_size = 64
    model = create_model(config)
    assert "of the outputs metal and via, metal is trained" in capsys.readouterr().out
    assert dict(model.spec.options)["classes"] == 1 and model.spec.outputs == ("metal",)
    packaged = checkpoints.load_model("sem")
    assert model.spec.preprocessing == packaged.spec.preprocessing
    config.dataset.crop_size = 512
    larger = dataclasses.replace(packaged.spec.preprocessing, crop_size=512)
    assert create_model(config).spec.preprocessing == larger
    np.testing.assert_array_equal(
        model.classifier.kernel[...][..., 0], packaged.classifier.kernel[...][..., 0]
    )


def test_a_width_of_wires_needs_crops(config, tmp_path):
    """Also one that the checkpoint carries. No work directory is made."""
    config.model.checkpoint, config.model.options = "sem", ConfigDict()
    with pytest.raises(UserError, match=r"trained for wires of 20 pixels: set config\.dataset"):
        Trainer(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"use_tssa": False}, "options.use_tssa is False, but the network in .* has True: remove"),
        ({"block_1_dilations": (3,)}, r"is \(3,\), but the network in .* has \(2,\)"),
        ({"tssa": False}, "model eal_icnet has no option tssa: it takes"),
    ],
)
def test_fine_tuning_refuses_other_options_than_the_checkpoints(config, workdir, options, sentence):
    config.model.checkpoint = str(workdir)
    with config.unlocked():
        config.model.options.update(options)
    with pytest.raises(UserError, match=sentence):
        create_model(config)


def test_fine_tuning_refuses_a_checkpoint_for_other_images(config, workdir):
    config.model.checkpoint = str(workdir)
    config.model.in_channels = 3
    with pytest.raises(UserError, match=r"in_channels=1, but the config asks for .* in_channels=3"):
        create_model(config)
