"""The input pipeline: seeded, independent of workers, resumable, image and label together."""

import jax
import numpy as np
import pytest

from eal_icnet_jax import input_pipeline
from eal_icnet_jax.distributed import ALONE, Processes
from eal_icnet_jax.errors import UserError
from tests import small_config


@pytest.fixture
def config(data_dir):
    config = small_config.get_config()
    config.dataset.data_dir = str(data_dir)
    config.dataset.crop_size = 64
    config.batch_size = 2
    return config


def batches(config, start=None, processes=ALONE):
    source = input_pipeline.open_split(config.dataset, "train")
    out = input_pipeline.TrainingBatches(config, source, processes)
    if start:
        out.set_state(start)
    return list(out)


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
    threads = batches(config)
    config.workers = 2
    assert_same_batches(threads, batches(config))


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_several_processes_in_turn_are_the_batch_of_one(config, count):
    config.batch_size = 4
    parts = [batches(config, processes=Processes(index, count)) for index in range(count)]
    joined = []
    for turn in zip(*parts, strict=True):
        arrays, states = zip(*turn, strict=True)
        joined.append((jax.tree.map(lambda *part: np.concatenate(part), *arrays), states[0]))
    assert_same_batches(batches(config), joined)


def test_reading_goes_on_where_a_state_was_saved(config):
    whole = batches(config)
    assert_same_batches(whole[6:], batches(config, start=whole[5][1]))


def test_every_epoch_is_another_order_of_all_images(config):
    config.dataset.crop_size = 0
    for key in config.augmentation:
        config.augmentation[key] = type(config.augmentation[key])(0)
    means = [tuple(batch["image"].mean((1, 2, 3))) for batch, _ in batches(config)]
    epochs = [sum(means[k : k + 4], ()) for k in (0, 4, 8)]
    assert len(set(epochs)) == 3
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert len(set(epochs[0])) == 8


def test_more_epochs_change_nothing_in_the_first(config):
    three = batches(config)
    config.epochs = 4
    assert_same_batches(three, batches(config)[: len(three)])


def numbered(size=16):
    """An example whose label says where each pixel of the image came from."""
    image = np.arange(size * size, dtype=np.float32).reshape(size, size, 1) / (size * size)
    return {"image": image, "label": image > 0.5, "name": "numbered"}


@pytest.mark.parametrize("seed", range(8))
def test_image_and_label_move_together(seed):
    example = numbered()
    for change in (
        input_pipeline.RandomCrop(8),
        input_pipeline.Augment(flip=True, rotate=True, brightness=0.0, contrast=0.0),
    ):
        example = change(example, np.random.default_rng(seed))
    np.testing.assert_array_equal(example["label"], example["image"] > 0.5)
    assert example["image"].shape == (8, 8, 1)


def test_each_augmentation_is_a_knob():
    original = numbered()
    off = dict.fromkeys(("flip", "rotate"), False) | dict.fromkeys(("brightness", "contrast"), 0.0)

    def changed(**on):
        augment = input_pipeline.Augment(**{**off, **on})
        return [augment(original, np.random.default_rng(seed)) for seed in range(12)]

    for example in changed():
        np.testing.assert_array_equal(example["image"], original["image"])
    for knob, value in (("flip", True), ("rotate", True)):
        seen = {example["image"].tobytes() for example in changed(**{knob: value})}
        assert len(seen) == 4
    for knob in ("brightness", "contrast"):
        for example in changed(**{knob: 0.3}):
            assert not np.array_equal(example["image"], original["image"])
            assert example["image"].min() >= 0 and example["image"].max() <= 1
            np.testing.assert_array_equal(example["label"], original["label"])
    for example in changed(brightness=0.3):
        inside = (example["image"] > 0) & (example["image"] < 1)
        shifts = (example["image"] - original["image"])[inside]
        np.testing.assert_allclose(shifts, shifts[0], atol=1e-6)


def test_only_squares_turn():
    example = numbered()
    example = {**example, "image": example["image"][:8], "label": example["label"][:8]}
    augment = input_pipeline.Augment(flip=False, rotate=True, brightness=0.0, contrast=0.0)
    with pytest.raises(UserError, match="is 8x16, and only squares can be turned"):
        augment(example, np.random.default_rng(0))


def test_labels_of_another_size_or_with_grey_levels_are_told(capsys):
    import cv2

    def png(array):
        return cv2.imencode(".png", array)[1].tobytes()

    decode = input_pipeline.Decode(1, ("label",))
    image = png(np.zeros((8, 8), np.uint8))
    with pytest.raises(UserError, match=r"label of x is 4x8, its image 8x8: make them one size"):
        decode({"name": b"x", "image": image, "label": png(np.zeros((4, 8), np.uint8))})
    grey = np.full((8, 8), 100, np.uint8)
    grey[0] = 129
    out = decode({"name": b"x", "image": image, "label": png(grey)})
    assert out["label"].sum() == 8
    assert "label of x has more than two levels: thresholded at 128" in capsys.readouterr().err


def test_slices_of_splits_can_be_taken(config):
    whole = input_pipeline.open_split(config.dataset, "train")
    config.dataset.splits.train, config.dataset.splits.test = "train[2:5]", "train[:50%]"
    part = input_pipeline.open_split(config.dataset, "train")
    assert [e["name"] for e in part] == [whole[k]["name"] for k in (2, 3, 4)]
    assert len(input_pipeline.open_split(config.dataset, "test")) == 4
    for wrong in ("trian", "train[:x]", "train[:500]"):
        config.dataset.splits.test = wrong
        with pytest.raises(UserError, match=r"no split .*: it has train, validation, test, and"):
            input_pipeline.open_split(config.dataset, "test")


def test_an_unprepared_dataset_is_told(config, tmp_path):
    config.dataset.data_dir, config.dataset.prepare = str(tmp_path), False
    with pytest.raises(UserError, match=r"ic_synthetic/tiny/1.0.0 is not prepared in .*--mode=pre"):
        input_pipeline.open_split(config.dataset, "train")
    config.dataset.data_dir = "/proc/nowhere"
    with pytest.raises(UserError, match=r"/proc/nowhere.* cannot be written"):
        input_pipeline.prepare(config.dataset)
