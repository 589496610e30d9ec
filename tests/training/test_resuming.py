"""A run that was stopped goes on to the same end, bit for bit."""

import signal

import numpy as np
import pytest

from eal_icnet_jax.configs import default
from eal_icnet_jax.data import prepared_datasets, training_batches
from eal_icnet_jax.imaging import pixel_values
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import runs
from eal_icnet_jax.training.trainer import Trainer
from tests import small_config, trainings
from tests.imaging.sample_images import pixels


def timeless(records: list[dict]) -> list[dict]:
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in records]


def test_a_run_that_is_killed_between_checkpoints_leaves_no_process_and_is_the_same_run(
    data_dir, small_training, workdir, tmp_path, capsys
):
    """SIGKILL after step 13 of 24, amid an epoch, with processes that read images.

    The run goes on without such processes. The logs have each step once.
    """
    killed = tmp_path / "killed"
    process = trainings.Process(
        "main", *small_training, f"--workdir={killed}", "--config.workers=2"
    )
    assert process.wait_for("step 13/24"), process.text
    process.signal(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL
    process.assert_nothing_left()
    Trainer(small_config.on(data_dir), killed).run()
    assert "resuming from step" in capsys.readouterr().out
    trainings.assert_equal(trainings.weights(killed, 24), trainings.weights(workdir, 24))
    records = timeless(trainings.records(killed))
    resumed = {(record["step"], "epoch" in record): record for record in records}
    assert len(resumed) == len(records), "a step is logged twice"
    for record in timeless(trainings.records(workdir)):
        # The first step of a process is not timed, so a resumed run lacks the line of one step.
        assert resumed.get((record["step"], "epoch" in record), record) == record


def test_a_finished_run_trains_no_further(data_dir, workdir, workdir_copy, capsys):
    text = runs.train(small_config.on(data_dir), workdir_copy)
    assert "epoch 3/3" not in capsys.readouterr().out
    assert "test split, 3 images" in text
    trainings.assert_same_end(workdir_copy, workdir)


def test_resuming_with_another_seed_is_refused(data_dir):
    config = small_config.on(data_dir)
    source = prepared_datasets.open_split(config.dataset, "train")
    state = training_batches.TrainingBatches(config, source).get_state()
    config.seed = 5
    with pytest.raises(UserError, match="other data, or with another seed"):
        training_batches.TrainingBatches(config, source).set_state(state)


def test_the_names_of_a_batch_are_those_of_its_images(data_dir):
    config = small_config.on(data_dir)
    config.batch_size, config.epochs = 2, 2
    config.augmentation.update(default.get_config().augmentation)
    source = prepared_datasets.open_split(config.dataset, "train")
    by_name = {example["name"].decode(): example for example in source}
    batches = training_batches.TrainingBatches(config, source)
    for k, (batch, _) in enumerate(batches):
        for name, image in zip(batches.names(k), batch["image"], strict=True):
            expected = pixel_values.to_unit_range(pixels(by_name[name]["image"]), 1)
            np.testing.assert_array_equal(image, expected)
