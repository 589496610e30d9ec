"""Disks that fill up or refuse, folders that go, clocks that jump, checkpoints that rot."""

import collections
import multiprocessing
import os
import pathlib
import shutil
import time

import numpy as np
import pytest

from eal_icnet_jax import checkpoints, train
from eal_icnet_jax.errors import UserError
from tests import disks, runs, small_config


def arrays_of(data_dir, workdir):
    """What the checkpoints of this workdir hold, from a copy that is not otherwise used."""
    trainer = train.Trainer(small_config.on(data_dir), workdir)
    out = trainer._arrays()
    trainer.workdir.release()
    return out


CARRYING = ("metadata/metadata", "/d/", "manifest.ocdbt")
"""What is in the names of files that hold what a checkpoint says; Orbax's others repeat some."""


def carries(path: pathlib.Path) -> bool:
    return any(part in str(path) for part in CARRYING)


def damaged(content: bytes, parts: int):
    """A file's content after each of some damages: bytes flipped, and cut short."""
    for k in range(parts):
        position = (2 * k + 1) * len(content) // (2 * parts)
        flipped = bytearray(content)
        flipped[position] ^= 0x41
        yield f"byte {position} flipped", bytes(flipped)
    yield "cut short", content[: len(content) // 2]


def assert_damage_is_noticed_or_harmless(data_dir, workdir, copy, capsys, parts) -> dict:
    """Damages every file of the latest checkpoint, one after another."""
    shutil.copytree(workdir, copy)
    model, training = arrays_of(data_dir, copy)
    latest = copy / "checkpoints" / "24"
    aside = latest.with_name("damaged_24")
    whole = checkpoints.TrainingCheckpoints(copy).restore(model, training)
    found: collections.Counter = collections.Counter()
    files = sorted(path for path in latest.rglob("*") if path.is_file())
    for path in files if parts > 1 else filter(carries, files):
        content = path.read_bytes()
        for how, bad in damaged(content, parts):
            path.write_bytes(bad)
            capsys.readouterr()
            restored = checkpoints.TrainingCheckpoints(copy).restore(model, training)
            if aside.exists():
                told = capsys.readouterr().err
                assert f"the checkpoint {latest} is damaged" in told, (path, how)
                assert f"it is set aside as {aside}, and the one of step 2" in told
                assert restored[2]["step"] < 24
                aside.rename(latest)
                found["noticed"] += 1
            else:
                runs.same(restored[0], whole[0])
                runs.same(restored[1], whole[1])
                assert restored[2] == whole[2]
                found["harmless"] += 1
                if carries(path):
                    found["harmless in files that carry the arrays"] += 1
            path.write_bytes(content)
    return dict(found)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(
    data_dir, workdir, tmp_path, capsys
):
    """A byte of each file that carries something is flipped, or it is cut short."""
    found = assert_damage_is_noticed_or_harmless(data_dir, workdir, tmp_path / "c", capsys, 1)
    assert found["noticed"] >= 10


@pytest.mark.soak
def test_damage_at_many_places(data_dir, workdir, tmp_path, capsys, figures):
    figures |= assert_damage_is_noticed_or_harmless(data_dir, workdir, tmp_path / "c", capsys, 40)
    assert figures["noticed"] > 100


def test_training_goes_on_from_the_one_before_to_the_same_end(data_dir, workdir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    for path in (copy / "checkpoints" / "24" / "training").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    train.Trainer(small_config.on(data_dir), copy).run()
    told = capsys.readouterr()
    assert "is damaged" in told.err and "resuming from step 2" in told.out
    runs.same(runs.weights(copy, 24), runs.weights(workdir, 24))
    assert (copy / "checkpoints" / "damaged_24").is_dir()


def test_all_checkpoints_damaged_is_told_and_nothing_is_lost(data_dir, workdir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    model, training = arrays_of(data_dir, copy)
    there = sorted(path.name for path in (copy / "checkpoints").iterdir())
    for path in (copy / "checkpoints").glob("*/metadata/metadata"):
        path.write_text(path.read_text().replace('"early_stopping"', '"early_stoppinG"'))
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole, use a new --workdir"):
        checkpoints.TrainingCheckpoints(copy).restore(model, training)
    assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == there
    with pytest.raises(
        UserError, match="is damaged, use another: metadata is not what was written"
    ):
        checkpoints.load_model(copy)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("bytes changed", r"record \d+ of ic_synthetic/tiny/1\.0\.0 cannot be read in .*hash"),
        ("cut short", r"cannot be read in .* \(.*\): the files there are damaged, remove them"),
        ("emptied", r"record 0 of ic_synthetic/tiny/1\.0\.0 cannot be read in"),
        ("described by nothing", "the description of dataset ic_synthetic cannot be read in"),
        ("described as another", r"is not of array_record files: build it with --file_format"),
    ],
)
def test_a_dataset_that_is_damaged_is_told(data_dir, tmp_path, how, told):
    """Also where another process reads it."""
    data = tmp_path / "data"
    shutil.copytree(data_dir, data)
    (path,) = data.rglob("*train.array_record*")
    content = bytearray(path.read_bytes())
    if how == "bytes changed":
        for k in range(1, 16):
            at = k * len(content) // 16
            content[at : at + 64] = bytes(byte ^ 0x5A for byte in content[at : at + 64])
    elif how == "cut short":
        del content[len(content) // 2 :]
    elif how == "emptied":
        del content[:]
    else:
        path = path.with_name("dataset_info.json")
        kept = path.read_text().replace('"array_record"', '"tfrecord"')
        content = kept.encode() if how == "described as another" else b""
    path.write_bytes(content)
    config = small_config.on(data)
    config.workers = 2 if how == "bytes changed" else 0
    with pytest.raises(UserError, match=told):
        train.Trainer(config, tmp_path / "run").run()


def test_a_reader_that_is_killed_stops_the_run_and_it_goes_on_later(data_dir, workdir, tmp_path):
    """As by a system that is out of memory."""
    config = small_config.on(data_dir)
    config.workers, config.epochs = 2, 200
    trainer = train.Trainer(config, tmp_path)
    step, taken = trainer.train_step, []

    def then_kill(state, batch):
        taken.append(1)
        if len(taken) == 6:
            multiprocessing.active_children()[0].kill()
        return step(state, batch)

    trainer.train_step = then_kill
    with pytest.raises(UserError, match="one of the 2 processes that read images was killed"):
        trainer.run()
    assert multiprocessing.active_children() == []
    assert runs.steps(tmp_path)[-1] < 24
    config.epochs = 3
    train.Trainer(config, tmp_path).run()
    runs.same(runs.weights(tmp_path, 24), runs.weights(workdir, 24))


def test_a_disk_that_fills_up_stops_with_a_sentence_and_the_run_goes_on_later(
    small_training, workdir, tmp_path
):
    disk = tmp_path / "disk"
    with disks.mounted(disk, "size=6m") as change:
        arguments = ["main", *small_training, f"--workdir={disk / 'run'}"]
        process = runs.Process(*arguments)
        assert process.end() == 1, process.text
        (line,) = [x for x in process.text.splitlines() if x.startswith("error: ")]
        assert "cannot be written" in line and "run the same command again" in line
        assert "Traceback" not in process.text
        assert runs.steps(disk / "run"), "nothing was written before it was full"
        change("size=200m")
        process = runs.Process(*arguments)
        assert process.end() == 0, process.text
        assert "resuming from step" in process.text
        runs.same(runs.weights(disk / "run", 24), runs.weights(workdir, 24))


def test_a_disk_that_cannot_be_written_is_told_at_once(data_dir, workdir, tmp_path):
    disk = tmp_path / "disk"
    with disks.mounted(disk, "size=100m") as change:
        shutil.copytree(workdir, disk / "run")
        change("ro")
        for path in (disk / "run", disk / "new"):
            with pytest.raises(UserError, match="cannot be written: Read-only file system"):
                train.Trainer(small_config.on(data_dir), path)


def test_a_workdir_that_is_deleted_stops_the_run(data_dir, tmp_path):
    """At the next line of its log, at the latest."""
    trainer = train.Trainer(small_config.on(data_dir), tmp_path / "run")
    step, taken = trainer.train_step, []

    def then_delete(state, batch):
        taken.append(1)
        if len(taken) == 6:
            (tmp_path / "run").rename(tmp_path / "gone")
        return step(state, batch)

    trainer.train_step = then_delete
    with pytest.raises(UserError, match="cannot be written"):
        trainer.run()
    assert len(taken) < 10


def test_a_clock_that_jumps_changes_nothing(data_dir, workdir, tmp_path, monkeypatch):
    """Days to and fro, every few hundred times that it is read."""
    rng, real, offset = np.random.default_rng(0), time.time, [0.0]

    def jumping():
        if rng.random() < 0.01:
            offset[0] = rng.integers(-9, 10) * 86400.0
        return real() + offset[0]

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    train.Trainer(small_config.on(data_dir), tmp_path).run()
    assert offset[0], "it never jumped"
    runs.same(runs.weights(tmp_path, 24), runs.weights(workdir, 24))
    assert runs.epochs(tmp_path) == runs.epochs(workdir)
