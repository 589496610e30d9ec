"""Full and read-only disks, deleted folders, clocks that jump, damaged checkpoints and data."""

import collections
import multiprocessing
import os
import pathlib
import shutil
import time

import numpy as np
import pytest

from eal_icnet_jax.data import prepared_datasets
from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training.trainer import Trainer
from eal_icnet_jax.training.training_checkpoints import TrainingCheckpoints
from tests import disks, small_config, trainings


def small_checkpoints(folder: pathlib.Path):
    """Write the checkpoints 16 and 24 of a few arrays; return what the latter's items hold."""
    folder.mkdir()
    written = TrainingCheckpoints(folder)
    rng = np.random.default_rng(0)
    for step in (16, 24):
        model = {f"layer_{k}.kernel": rng.random((32, 40), np.float32) for k in range(3)}
        training = {"optimizer.mu": rng.random((32, 40), np.float32), "step": np.int32(step)}
        metadata = {"step": step, "early_stopping": {"best_step": 16}, "note": "x" * 500}
        written.save(step, model, training, metadata)
    written.close()
    return model, training


def training_arrays(data_dir, workdir):
    """Return what the items of this workdir's checkpoints hold."""
    trainer = Trainer(small_config.on(data_dir), workdir)
    trainer.workdir.release()
    return trainer.state.to_arrays()


ARRAY_FILES = ("metadata/metadata", "/d/", "manifest.ocdbt")
"""Parts of the paths of files without which a checkpoint cannot be read."""


def is_needed(path: pathlib.Path) -> bool:
    return any(part in str(path) for part in ARRAY_FILES)


def damaged(content: bytes, parts: int):
    """Yield a file's content with one byte changed at each of some places, and cut short."""
    for k in range(parts):
        position = (2 * k + 1) * len(content) // (2 * parts)
        flipped = bytearray(content)
        flipped[position] ^= 0x41
        yield f"byte {position} flipped", bytes(flipped)
    yield "cut short", content[: len(content) // 2]


def assert_damage_is_noticed_or_harmless(workdir, model, training, capsys, places) -> dict:
    """Damage every file of the checkpoint 24, one after another; count what was noticed."""
    latest = workdir / "checkpoints" / "24"
    aside = latest.with_name("damaged_24")
    expected = TrainingCheckpoints(workdir).restore(model, training)
    counts: collections.Counter = collections.Counter()
    files = sorted(path for path in latest.rglob("*") if path.is_file())
    for path in files:
        content = path.read_bytes()
        for damage, bad in damaged(content, places):
            path.write_bytes(bad)
            capsys.readouterr()
            restored = TrainingCheckpoints(workdir).restore(model, training)
            if aside.exists():
                message = capsys.readouterr().err
                assert f"the checkpoint {latest} is damaged" in message, (path, damage)
                assert f"it is set aside as {aside}, and the one of step " in message
                assert restored[2]["step"] < 24
                aside.rename(latest)
                counts["noticed"] += 1
            else:
                trainings.assert_equal(restored[0], expected[0])
                trainings.assert_equal(restored[1], expected[1])
                assert restored[2] == expected[2]
                counts["harmless"] += 1
                if is_needed(path):
                    counts["harmless in files that hold the arrays"] += 1
            path.write_bytes(content)
    return dict(counts)


# Orbax leaves coroutines behind; commands silence what Python prints about them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(tmp_path, capsys):
    """Bytes of each file are changed, or the file is cut short."""
    model, training = small_checkpoints(tmp_path / "run")
    counts = assert_damage_is_noticed_or_harmless(tmp_path / "run", model, training, capsys, 3)
    assert counts["noticed"] >= 20


@pytest.mark.soak
def test_damage_at_many_places(data_dir, workdir_copy, capsys, figures):
    arrays = training_arrays(data_dir, workdir_copy)
    figures |= assert_damage_is_noticed_or_harmless(workdir_copy, *arrays, capsys, 40)
    assert figures["noticed"] > 100


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one_to_the_same_end(
    data_dir, workdir, workdir_copy, capsys
):
    for path in (workdir_copy / "checkpoints" / "24" / "training").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    Trainer(small_config.on(data_dir), workdir_copy).run()
    printed = capsys.readouterr()
    assert "is damaged" in printed.err and "resuming from step 2" in printed.out
    trainings.assert_equal(trainings.weights(workdir_copy, 24), trainings.weights(workdir, 24))
    assert (workdir_copy / "checkpoints" / "damaged_24").is_dir()


def test_if_every_checkpoint_is_damaged_that_is_reported_and_all_are_kept(tmp_path):
    model, training = small_checkpoints(tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    for path in folder.glob("*/metadata/metadata"):
        path.write_text(path.read_text().replace('"early_stopping"', '"early_stoppinG"'))
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged, use a new --workdir"):
        TrainingCheckpoints(tmp_path / "run").restore(model, training)
    assert sorted(path.name for path in folder.iterdir()) == ["16", "24"]
    message = "is damaged, use another: metadata is not what was written"
    with pytest.raises(UserError, match=message):
        checkpoints.load_model(tmp_path / "run")


def test_damage_of_a_model_is_noticed_without_loading_the_training(tmp_path):
    model, _ = small_checkpoints(tmp_path / "run")
    written = TrainingCheckpoints(tmp_path / "run")
    assert written.is_undamaged(16, model)
    for path in (tmp_path / "run" / "checkpoints" / "16" / "model").rglob("d/*"):
        os.truncate(path, path.stat().st_size // 2)
    assert not written.is_undamaged(16, model)
    assert not written.is_undamaged(8, model), "it does not exist"


def test_a_damaged_best_checkpoint_is_replaced_by_the_best_that_follows(
    data_dir, workdir_copy, capsys, monkeypatch
):
    monkeypatch.setattr(TrainingCheckpoints, "is_undamaged", lambda *_: False)
    trainer = Trainer(small_config.on(data_dir), workdir_copy)
    trainer.workdir.release()
    assert trainer.stopping.best_step is None
    assert "is damaged or gone: the best of the epochs that follow" in capsys.readouterr().err


def change_bytes(content: bytearray):
    for k in range(1, 16):
        at = k * len(content) // 16
        content[at : at + 64] = bytes(byte ^ 0x5A for byte in content[at : at + 64])


def cut_short(content: bytearray):
    del content[len(content) // 2 :]


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("*train.array_record*", cut_short, r"cannot be read in .* \(.*\): the files there are da"),
        ("*train.array_record*", bytearray.clear, r"record 0 of ic_synthetic/tiny/1\.0\.0 cannot "),
        ("dataset_info.json", bytearray.clear, "the description of dataset ic_synthetic cannot be"),
        (
            "dataset_info.json",
            lambda content: content.__init__(content.replace(b'"array_record"', b'"tfrecord"')),
            "is not of array_record files: build it with --file_format",
        ),
    ],
    ids=["cut short", "empty", "description empty", "description of another format"],
)
def test_a_damaged_dataset_is_reported(data_dir, tmp_path, file, damage, message):
    shutil.copytree(data_dir, tmp_path / "data")
    (path,) = (tmp_path / "data").rglob(file)
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        source = prepared_datasets.open_split(small_config.on(tmp_path / "data").dataset, "train")
        for index in range(len(source)):
            source[index]


def test_a_damaged_record_that_another_process_reads_stops_the_training(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "data")
    (path,) = (tmp_path / "data").rglob("*train.array_record*")
    content = bytearray(path.read_bytes())
    change_bytes(content)
    path.write_bytes(content)
    config = small_config.on(tmp_path / "data")
    config.workers = 2
    message = r"record \d+ of ic_synthetic/tiny/1\.0\.0 cannot be read in .*hash"
    with pytest.raises(UserError, match=message):
        Trainer(config, tmp_path / "run").run()


def at_step(trainer: Trainer, step: int, action) -> list[int]:
    """Call a function before a step of a trainer; return a list to which each step is added."""
    train_step, taken = trainer.train_step, []

    def wrapped(state, batch):
        taken.append(len(taken) + 1)
        if taken[-1] == step:
            action()
        return train_step(state, batch)

    trainer.train_step = wrapped
    return taken


def test_a_killed_reading_process_stops_the_run_which_goes_on_later(data_dir, workdir, tmp_path):
    """The system kills one when memory runs out.

    It is killed while it waits to hand over an image. In the microseconds in which it holds a lock
    of Grain's, Grain would wait for that lock for ever.
    """
    config = small_config.on(data_dir)
    config.workers, config.epochs = 2, 200
    trainer = Trainer(config, tmp_path)

    def kill():
        time.sleep(1.0)
        multiprocessing.active_children()[0].kill()

    at_step(trainer, 6, kill)
    with pytest.raises(UserError, match="one of the 2 processes that read images was killed"):
        trainer.run()
    assert multiprocessing.active_children() == []
    assert trainings.steps(tmp_path)[-1] < 24
    config.epochs, config.workers = 3, 0
    Trainer(config, tmp_path).run()
    trainings.assert_equal(trainings.weights(tmp_path, 24), trainings.weights(workdir, 24))


def test_a_full_disk_stops_the_run_with_a_sentence_and_the_run_goes_on_later(
    data_dir, small_training, workdir, tmp_path, capsys
):
    """In a process of its own, to see everything that libraries print."""
    disk = tmp_path / "disk"
    with disks.mounted(disk, "size=6m") as remount:
        process = trainings.Process("main", *small_training, f"--workdir={disk / 'run'}")
        assert process.end() == 1, process.text
        (line,) = [x for x in process.text.splitlines() if x.startswith("error: ")]
        assert "cannot be written" in line and "run the same command again" in line
        assert "Traceback" not in process.text
        assert trainings.steps(disk / "run"), "nothing was written before it was full"
        remount("size=200m")
        Trainer(small_config.on(data_dir), disk / "run").run()
        assert "resuming from step" in capsys.readouterr().out
        trainings.assert_equal(trainings.weights(disk / "run", 24), trainings.weights(workdir, 24))


def test_a_read_only_disk_is_reported_at_once(data_dir, workdir, tmp_path):
    disk = tmp_path / "disk"
    with disks.mounted(disk, "size=100m") as remount:
        shutil.copytree(workdir, disk / "run")
        remount("ro")
        for path in (disk / "run", disk / "new"):
            with pytest.raises(UserError, match="cannot be written: Read-only file system"):
                Trainer(small_config.on(data_dir), path)


def test_a_deleted_workdir_stops_the_run_at_the_next_line_of_its_log(data_dir, tmp_path):
    trainer = Trainer(small_config.on(data_dir), tmp_path / "run")
    taken = at_step(trainer, 6, lambda: (tmp_path / "run").rename(tmp_path / "gone"))
    with pytest.raises(UserError, match="cannot be written"):
        trainer.run()
    assert len(taken) < 10


def test_a_clock_that_jumps_changes_nothing(data_dir, workdir, tmp_path, monkeypatch):
    """By days in both directions, every hundred times that it is read."""
    rng, real, offset = np.random.default_rng(0), time.time, [0.0]

    def jumping():
        if rng.random() < 0.01:
            offset[0] = rng.integers(-9, 10) * 86400.0
        return real() + offset[0]

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    Trainer(small_config.on(data_dir), tmp_path).run()
    assert offset[0], "it never jumped"
    trainings.assert_same_end(tmp_path, workdir)
