"""Prepared datasets: prepared once, opened by split, and errors reported as what they are."""

import os
import pathlib
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from eal_icnet_jax.data import prepared_datasets, training_batches
from eal_icnet_jax.data.decoded_examples import evaluation_examples
from eal_icnet_jax.system.errors import UserError
from tests import small_config, tree_config


@pytest.fixture
def dataset(data_dir):
    return small_config.on(data_dir).dataset


@pytest.fixture
def copied_dataset(data_dir, tmp_path):
    """A copy of the prepared dataset that a test may damage."""
    shutil.copytree(data_dir, tmp_path / "data")
    return small_config.on(tmp_path / "data").dataset


def error_of(dataset, split="train") -> str:
    with pytest.raises(UserError) as error:
        source = prepared_datasets.open_split(dataset, split)
        for index in range(len(source)):
            source[index]
    return str(error.value)


def test_slices_of_splits_can_be_taken(dataset):
    all_examples = prepared_datasets.open_split(dataset, "train")
    dataset.splits.train, dataset.splits.test = "train[2:5]", "train[:50%]"
    part = prepared_datasets.open_split(dataset, "train")
    assert [e["name"] for e in part] == [all_examples[k]["name"] for k in (2, 3, 4)]
    assert len(prepared_datasets.open_split(dataset, "test")) == 4
    for wrong in ("trian", "train[:x]", "train[:500]"):
        dataset.splits.test = wrong
        with pytest.raises(UserError, match=r"no split .*: it has train, validation, test, and"):
            prepared_datasets.open_split(dataset, "test")


def names(source) -> list[str]:
    return [source[k]["name"].decode() for k in range(len(source))]


def test_each_training_image_gives_as_many_views_as_the_config_names(dataset):
    dataset.splits.train, dataset.views = "train[:2]", 3
    once = names(prepared_datasets.open_split(dataset, "train"))
    assert len(once) == 2
    assert names(prepared_datasets.open_training_examples(dataset)) == 3 * once
    assert names(prepared_datasets.open_split(dataset, "validation"))[0] not in once


def test_drawn_images_are_mixed_in_by_their_part(dataset):
    """Of the 16 images of an epoch, a quarter is drawn: from the start, and again if need be."""
    dataset.splits.train, dataset.views = "train[6:8]", 6
    dataset.mixed, dataset.mixed_fraction = "ic_synthetic/tiny", 0.25
    source = prepared_datasets.open_training_examples(dataset)
    drawn = dataset.copy_and_resolve_references()
    drawn.splits.train = "train"
    first = names(prepared_datasets.open_split(drawn, "train"))
    assert names(source) == 6 * first[6:8] + first[:4]
    dataset.mixed_fraction = 0.5
    assert names(prepared_datasets.open_training_examples(dataset))[12:] == first + first[:4]
    assert list(prepared_datasets.digests(dataset)) == ["ic_synthetic/tiny/1.0.0"]


@pytest.mark.parametrize("empty", ["validation[:10%]", "validation[1:1]"])
def test_an_empty_slice_is_reported_with_the_size_of_the_split(dataset, empty):
    dataset.splits.validation = empty
    message = error_of(dataset, "validation")
    assert f"config.dataset.splits.validation is {empty!r}" in message
    assert "no example" in message and "validation has 3" in message
    assert "damaged" not in message


def test_an_unprepared_dataset_is_reported(dataset, tmp_path):
    dataset.data_dir, dataset.prepare = str(tmp_path), False
    assert "ic_synthetic/tiny/1.0.0 is not prepared in" in error_of(dataset)
    assert "eal-icnet prepare --config=" in error_of(dataset)
    dataset.data_dir = "/proc/nowhere"
    with pytest.raises(UserError, match=r"/proc/nowhere.* cannot be written"):
        prepared_datasets.prepare(dataset)


def make_link_to_itself(path: pathlib.Path):
    path.unlink()
    path.symlink_to(path)


def make_folder(path: pathlib.Path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "file, change, reason",
    [
        ("ic_synthetic-train*", make_link_to_itself, "Too many levels of symbolic links"),
        ("ic_synthetic-train*", make_folder, "Is a directory"),
        ("ic_synthetic-train*", pathlib.Path.unlink, "No such file or directory"),
        ("dataset_info.json", make_folder, "Is a directory"),
    ],
)
def test_a_file_that_the_system_refuses_is_not_called_damaged(copied_dataset, file, change, reason):
    (path,) = pathlib.Path(copied_dataset.data_dir).rglob(file)
    change(path)
    copied_dataset.prepare = False
    message = error_of(copied_dataset)
    assert f"{path} cannot be read: {reason}" in message
    assert "damaged" not in message


def test_a_dataset_folder_that_the_system_refuses_is_not_prepared_again(copied_dataset):
    folder = pathlib.Path(copied_dataset.data_dir) / "ic_synthetic/tiny/1.0.0"
    shutil.rmtree(folder)
    folder.symlink_to(folder)
    message = error_of(copied_dataset)
    assert f"{folder} cannot be read: Too many levels of symbolic links" in message


def test_an_oserror_while_a_record_is_read_is_not_called_damage(dataset, monkeypatch):
    source = prepared_datasets.open_split(dataset, "train")

    def fail(_):
        raise OSError(5, "Input/output error", "/disk/records")

    monkeypatch.setattr(type(source._source), "__getitem__", lambda self, index: fail(index))
    with pytest.raises(UserError, match="/disk/records cannot be read: Input/output error"):
        source[0]


def test_bytes_that_do_not_parse_are_called_damaged(copied_dataset):
    (path,) = pathlib.Path(copied_dataset.data_dir).rglob("ic_synthetic-train*")
    path.write_bytes(path.read_bytes()[:1000])
    assert "the files there are damaged, remove them" in error_of(copied_dataset)


def folder_dataset(tmp_path, sizes: dict[str, int]):
    """Three images a split, the first one of a side of `sizes[split]`, not prepared yet."""
    for split, size in sizes.items():
        for index in range(3):
            side = size if index == 0 else 64
            for part in ("image", "label"):
                folder = tmp_path / "images" / split / part
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{split}{index}.png"), np.zeros((side, side), np.uint8))
    config = tree_config.get_config("omv")
    config.dataset.manual_dir = str(tmp_path / "images")
    config.dataset.data_dir = str(tmp_path / "data")
    return config


def test_an_image_that_is_too_small_for_the_networks_is_named(tmp_path):
    config = folder_dataset(tmp_path, {"train": 20, "val": 31, "test": 32})
    config.dataset.allow_empty_labels = True
    source = prepared_datasets.open_split(config.dataset, "train")
    with pytest.raises(UserError, match=r"image train0 is 20x20, .*at least 32x32"):
        list(training_batches.TrainingBatches(config, source))
    source = prepared_datasets.open_split(config.dataset, "validation")
    with pytest.raises(UserError, match=r"image val0 is 31x31, .*at least 32x32"):
        list(evaluation_examples(config, source))
    source = prepared_datasets.open_split(config.dataset, "test")
    assert len(list(evaluation_examples(config, source))) == 3


PREPARE = """
import sys
from eal_icnet_jax.data import prepared_datasets
from tests import small_config

prepared_datasets.prepare(small_config.on(sys.argv[1]).dataset)
"""


def test_hosts_that_share_a_disk_prepare_a_dataset_once(tmp_path):
    """Each process has a temporary folder of its own, as hosts do."""
    processes = []
    for host in ("a", "b"):
        (tmp_path / host).mkdir()
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", PREPARE, str(tmp_path / "data")],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "TMPDIR": str(tmp_path / host)},
            )
        )
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum("preparing ic_synthetic" in output for output in outputs) == 1
    assert all("ic_synthetic/tiny/1.0.0 is prepared in" in output for output in outputs)
    folder = tmp_path / "data" / "ic_synthetic"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["downloads", folder.name]
    assert [path.name for path in (folder / "tiny").iterdir()] == ["1.0.0"]


def test_what_a_killed_preparation_left_is_removed_by_the_next(tmp_path):
    folder = tmp_path / "ic_synthetic" / "tiny"
    for name in ("incomplete.ABC123_1.0.0", "incomplete.ABC123_2.0.0"):
        (folder / name).mkdir(parents=True)
        (folder / name / "ic_synthetic-train.array_record").write_bytes(b"half")
    prepared_datasets.prepare(small_config.on(tmp_path).dataset)
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["1.0.0", "incomplete.ABC123_2.0.0"]
