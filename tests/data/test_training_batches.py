"""Training batches: seeded, independent of workers and processes, resumable."""

import os

import jax
import numpy as np
import pytest

from eal_icnet_jax.configs import default
from eal_icnet_jax.data import prepared_datasets, training_batches
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, ProcessGroup
from tests import small_config


@pytest.fixture
def config(data_dir):
    config = small_config.on(data_dir)
    config.dataset.crop_size = 64
    config.batch_size = 2
    return config


def batches(config, start=None, processes=SINGLE_PROCESS):
    source = prepared_datasets.open_split(config.dataset, "train")
    iterable = training_batches.TrainingBatches(config, source, processes)
    if start:
        iterable.set_state(start)
    return list(iterable)


def assert_same_batches(first, second):
    assert len(first) == len(second)
    for (a, state_a), (b, state_b) in zip(first, second, strict=True):
        assert state_a == state_b
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_batches_are_a_function_of_the_seed(config):
    first = batches(config)
    assert len(first) == 3 * 4
    image, label = first[0][0]["image"], first[0][0]["label"]
    assert image.shape == (2, 64, 64, 1) and image.dtype == np.float32
    assert label.shape == (2, 64, 64, 1) and label.dtype == bool
    assert image.min() >= 0 and image.max() <= 1
    assert_same_batches(first, batches(config))
    config.seed = 1
    assert not np.array_equal(batches(config)[0][0]["image"], image)


def test_worker_processes_give_the_same_batches(config):
    threads, environment = batches(config), dict(os.environ)
    config.workers = 2
    assert_same_batches(threads, batches(config))
    assert dict(os.environ) == environment


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_a_single_process(config, count):
    config.batch_size = 4
    parts = [batches(config, processes=ProcessGroup(index, count)) for index in range(count)]
    joined = []
    for turn in zip(*parts, strict=True):
        arrays, states = zip(*turn, strict=True)
        joined.append((jax.tree.map(lambda *part: np.concatenate(part), *arrays), states[0]))
    assert_same_batches(batches(config), joined)


def test_reading_goes_on_where_a_state_was_saved(config):
    complete = batches(config)
    assert_same_batches(complete[6:], batches(config, start=complete[5][1]))


def test_every_epoch_is_another_order_of_all_images(config):
    config.dataset.crop_size = 0
    config.augmentation.update(default.get_config().augmentation)
    means = [tuple(batch["image"].mean((1, 2, 3))) for batch, _ in batches(config)]
    epochs = [sum(means[k : k + 4], ()) for k in (0, 4, 8)]
    assert len(set(epochs)) == 3
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert len(set(epochs[0])) == 8


def test_more_epochs_change_nothing_in_the_first(config):
    three = batches(config)
    config.epochs = 4
    assert_same_batches(three, batches(config)[: len(three)])
