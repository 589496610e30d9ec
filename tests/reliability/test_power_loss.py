"""Loss of power: what the kernel had not written yet is gone, and nothing else."""

import errno
import os
import random
import signal
import time

import pytest

from eal_icnet_jax.system import files
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training.trainer import Trainer
from tests import cli, disks, small_config, trainings
from tests.reliability.test_soak_kills import ARGUMENTS


@pytest.fixture
def disk(tmp_path):
    with disks.ext4(tmp_path) as made:
        yield made


def test_what_is_only_written_is_lost_and_what_is_flushed_is_not(disk):
    """The file system of these tests loses data, as a real one does."""
    (disk.path / "written").write_bytes(b"1" * 9000)
    (disk.path / "folder").mkdir()
    (disk.path / "folder" / "flushed").write_bytes(b"1" * 9000)
    files.flush(disk.path / "folder")
    (disk.path / "later").write_bytes(b"1" * 9000)
    files.write_atomically(disk.path / "replaced", b"old")
    files.flush(disk.path / "replaced")
    for k in range(3):
        files.write_atomically(disk.path / "replaced", bytes([k]) * 9000)
    disk.lose_power()
    assert not (disk.path / "later").exists() or not (disk.path / "later").read_bytes()
    assert (disk.path / "folder" / "flushed").read_bytes() == b"1" * 9000
    versions = [b"old", *(bytes([k]) * 9000 for k in range(3))]
    assert (disk.path / "replaced").read_bytes() in versions


def test_a_file_system_that_cannot_flush_is_written_and_other_errors_are_reported(
    tmp_path, monkeypatch
):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    number = errno.EINVAL
    files.write_atomically(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"
    number = errno.EIO
    with pytest.raises(UserError, match="a cannot be written: Input/output error"):
        files.write_atomically(tmp_path / "a", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_finished_run_is_complete_after_a_loss_of_power(data_dir, workdir, disk):
    """With every announced checkpoint, and all records of the steps before it."""
    run = disk.path / "run"
    Trainer(small_config.on(data_dir), run).run()
    disk.lose_power()
    assert set(trainings.steps(workdir)) <= set(trainings.steps(run)), "older ones may be back"
    for step in trainings.steps(workdir):
        trainings.assert_equal(trainings.weights(run, step), trainings.weights(workdir, step))
    assert trainings.epochs(run) == trainings.epochs(workdir)
    for name in ("config.json", "parameters.txt"):
        assert (run / name).read_text()


LOSSES = 15


@pytest.mark.soak
def test_a_run_that_loses_power_many_times_ends_as_an_undisturbed_one(
    small_training, disk, tmp_path, figures
):
    undisturbed, run = tmp_path / "undisturbed", disk.path / "run"
    arguments = [*small_training, *ARGUMENTS, "--config.epochs=20"]
    result = cli.run("main", *arguments, f"--workdir={undisturbed}")
    assert result.returncode == 0, result.stderr
    last = trainings.steps(undisturbed)[-1]
    rng = random.Random(0)
    lost, set_aside = [], 0
    for _ in range(LOSSES):
        process = trainings.Process("main", *arguments, f"--workdir={run}")
        assert process.wait_for(r"step \d+/\d+"), process.text
        time.sleep(rng.uniform(0, 2))
        seen = max(record["step"] for record in trainings.records(run))
        disk.stop()
        process.signal(signal.SIGKILL, whole_session=True)
        assert process.end() == -signal.SIGKILL, "the training ended: make it longer"
        disk.start()
        lost.append(seen - (trainings.steps(run)[-1:] or [0])[0])
        set_aside += process.text.count("is set aside")
    result = cli.run("main", *arguments, f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    trainings.assert_same_end(run, undisturbed, last)
    assert max(lost) <= 6, lost
    figures.update(losses=LOSSES, steps=last, most_steps_lost=max(lost), set_aside=set_aside)
