"""Data-parallel training over `jax.distributed`, in processes on one machine."""

import shutil
import signal
import time

import jax
import pytest

from eal_icnet_jax import train
from eal_icnet_jax.errors import INTERRUPTED
from tests import commands, runs

ordered = pytest.mark.skipif(
    jax.__version_info__ < train.ORDERED, reason="this JAX mixes up what processes exchange on CPU"
)

BATCH = ("--config.batch_size=4",)


def assert_losses_agree(first, second):
    """Within 1e-5 of each other, after every epoch."""
    one, other = runs.epochs(first), runs.epochs(second)
    assert [r["step"] for r in one] == [r["step"] for r in other]
    for a, b in zip(one, other, strict=True):
        for key in ("train_loss", "validation_loss"):
            assert a[key] == pytest.approx(b[key], rel=1e-5), (a["step"], key)


@pytest.fixture(scope="module")
def one(small_training, tmp_path_factory):
    """Two epochs of two steps, in one process."""
    path = tmp_path_factory.mktemp("one")
    result = commands.run("main", *small_training, *BATCH, "--config.epochs=2", f"--workdir={path}")
    assert result.returncode == 0, result.stderr
    return path


def trained(count, *arguments):
    processes = runs.several(count, *arguments)
    for process in processes:
        assert process.end() == 0, process.text
    return processes


@ordered
def test_two_processes_train_as_one(small_training, one, tmp_path):
    """And one goes on with what they wrote."""
    arguments = [*small_training, *BATCH, f"--workdir={tmp_path}"]
    processes = trained(2, *arguments, "--config.epochs=1")
    assert "test split, 3 images" in processes[0].text
    assert "epoch" not in processes[1].text
    result = commands.run("main", *arguments, "--config.epochs=2")
    assert result.returncode == 0, result.stderr
    assert_losses_agree(tmp_path, one)


@ordered
def test_a_lost_process_ends_the_others_within_a_minute(small_training, one, tmp_path):
    """They go on with what one process wrote; a signal to one stops all of them together."""
    shutil.copytree(one, tmp_path / "run")
    arguments = [*small_training, *BATCH, "--config.epochs=200", f"--workdir={tmp_path / 'run'}"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes = runs.several(2, *arguments)
        assert processes[0].wait_for(r"epoch \d+/200 .* left"), processes[0].text
        processes[1].signal(number)
        start = time.monotonic()
        statuses = [process.end(60) for process in processes]
        assert time.monotonic() - start < 60
        assert "resuming from step" in processes[0].text
        if number == signal.SIGTERM:
            assert statuses == [INTERRUPTED, INTERRUPTED], processes[0].text + processes[1].text
            assert "interrupted: the checkpoint of step" in processes[0].text
        else:
            assert statuses == [1, -signal.SIGKILL], processes[0].text
            told = "error: process 1 of 2 failed or was lost: start all of them again"
            assert told in processes[0].text


@pytest.mark.skipif(jax.__version_info__ >= train.ORDERED, reason="of an older JAX")
def test_an_older_jax_refuses_several_processes_on_cpu(small_training, tmp_path):
    processes = runs.several(2, *small_training, *BATCH, f"--workdir={tmp_path}")
    assert [process.end(60) for process in processes] == [1, 1]
    assert all("older ones mix up what they exchange" in p.text for p in processes)


@ordered
def test_what_one_process_cannot_do_ends_all(small_training, workdir, tmp_path):
    """The first finds the workdir in use by another config; the other is told."""
    processes = runs.several(2, *small_training, *BATCH, f"--workdir={workdir}")
    assert [process.end(60) for process in processes] == [1, 1]
    assert "holds a run with another config" in processes[0].text
    assert "error: process 0 of 2 failed or was lost" in processes[1].text


@ordered
@pytest.mark.soak
def test_four_processes_train_as_one(small_training, one, tmp_path, figures):
    trained(4, *small_training, *BATCH, "--config.epochs=2", f"--workdir={tmp_path}")
    assert_losses_agree(tmp_path, one)
    pairs = zip(runs.epochs(tmp_path), runs.epochs(one), strict=True)
    figures["largest_relative_difference_of_losses"] = max(
        abs(a[key] / b[key] - 1) for a, b in pairs for key in ("train_loss", "validation_loss")
    )


@ordered
@pytest.mark.soak
def test_losing_any_of_four_ends_the_others(small_training, tmp_path, figures):
    arguments = [*small_training, *BATCH, "--config.epochs=200", f"--workdir={tmp_path}"]
    seconds = []
    for index in range(4):
        processes = runs.several(4, *arguments)
        assert processes[0].wait_for(r"epoch \d+/200 .* left"), processes[0].text
        start = time.monotonic()
        processes[index].signal(signal.SIGKILL)
        statuses = [process.end(60) for process in processes]
        seconds.append(round(time.monotonic() - start, 1))
        assert statuses.pop(index) == -signal.SIGKILL
        assert all(statuses), statuses
    figures["seconds_until_the_others_ended"] = seconds
