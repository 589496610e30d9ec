"""Machines that lose power: what the kernel had not written yet is gone, and nothing is wrong."""

import errno
import os
import random
import signal
import time

import pytest

from eal_icnet_jax import files, train
from eal_icnet_jax.errors import UserError
from tests import commands, disks, runs, small_config
from tests.reliability.test_soak_kills import ARGUMENTS


@pytest.fixture
def disk(tmp_path):
    with disks.ext4(tmp_path) as made:
        yield made


def test_what_is_only_written_is_lost_and_what_is_flushed_is_not(disk):
    """Or the tests below would show nothing."""
    (disk.path / "written").write_bytes(b"1" * 9000)
    (disk.path / "folder").mkdir()
    (disk.path / "folder" / "flushed").write_bytes(b"1" * 9000)
    files.flush(disk.path / "folder")
    (disk.path / "later").write_bytes(b"1" * 9000)
    files.write_whole(disk.path / "whole", b"old")
    files.flush(disk.path / "whole")
    for k in range(3):
        files.write_whole(disk.path / "whole", bytes([k]) * 9000)
    disk.lose_power()
    assert not (disk.path / "later").exists() or not (disk.path / "later").read_bytes()
    assert (disk.path / "folder" / "flushed").read_bytes() == b"1" * 9000
    assert (disk.path / "whole").read_bytes() in [b"old", *(bytes([k]) * 9000 for k in range(3))]


def test_file_systems_that_flush_nothing_are_written_and_errors_of_others_told(
    tmp_path, monkeypatch
):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    number = errno.EINVAL
    files.write_whole(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"
    number = errno.EIO
    with pytest.raises(UserError, match="a cannot be written: Input/output error"):
        files.write_whole(tmp_path / "a", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_checkpoint_that_is_told_of_is_there_after_a_power_loss(data_dir, workdir, disk):
    """With all records of the steps before it."""
    run = disk.path / "run"
    train.Trainer(small_config.on(data_dir), run).run()
    disk.lose_power()
    assert set(runs.steps(workdir)) <= set(runs.steps(run)), "older ones may be back"
    for step in runs.steps(workdir):
        runs.same(runs.weights(run, step), runs.weights(workdir, step))
    assert runs.epochs(run) == runs.epochs(workdir)
    for name in ("config.json", "parameters.txt"):
        assert (run / name).read_text()


LOSSES = 15


@pytest.mark.soak
def test_a_run_that_loses_power_over_and_over_ends_as_one_that_does_not(
    small_training, disk, tmp_path, figures
):
    undisturbed, run = tmp_path / "undisturbed", disk.path / "run"
    arguments = [*small_training, *ARGUMENTS, "--config.epochs=20"]
    result = commands.run("main", *arguments, f"--workdir={undisturbed}")
    assert result.returncode == 0, result.stderr
    last = runs.steps(undisturbed)[-1]
    rng = random.Random(0)
    lost, set_aside = [], 0
    for _ in range(LOSSES):
        process = runs.Process("main", *arguments, f"--workdir={run}")
        assert process.wait_for(r"step \d+/\d+"), process.text
        time.sleep(rng.uniform(0, 2))
        seen = max(record["step"] for record in runs.records(run))
        disk.stop()
        process.signal(signal.SIGKILL, all_of_it=True)
        assert process.end() == -signal.SIGKILL, "the training ended: make it longer"
        disk.start()
        lost.append(seen - (runs.steps(run)[-1:] or [0])[0])
        set_aside += process.text.count("is set aside")
    result = commands.run("main", *arguments, f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    runs.same(runs.weights(run, last), runs.weights(undisturbed, last))
    assert runs.epochs(run) == runs.epochs(undisturbed)
    assert max(lost) <= 6, lost
    figures.update(losses=LOSSES, steps=last, most_steps_lost=max(lost), set_aside=set_aside)
