"""Signals, and two commands in one place."""

import signal
import subprocess
import sys
import time

import pytest

from eal_icnet_jax import files, train
from eal_icnet_jax.errors import INTERRUPTED, Interrupted, Interruption, UserError
from tests import runs, small_config
from tests.conftest import SMALL_CONFIG


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 2)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_finishes_the_step_and_the_run_goes_on_bit_for_bit(
    small_training, workdir, tmp_path, number, workers
):
    """With other numbers of workers before and after, too, whom the signal is sent as well."""
    arguments = [*small_training, f"--workdir={tmp_path}", "--config.checkpoint_every_steps=0"]
    process = runs.Process("main", *arguments, f"--config.workers={workers}")
    assert process.wait_for(r"step 10/24"), process.text
    process.signal(number, all_of_it=True)
    assert process.end() == INTERRUPTED == 75, process.text
    (step,) = [step for step in runs.steps(tmp_path) if step % 8]
    assert 10 <= step < 16
    assert f"{number.name}: finishing the step" in process.text
    assert f"interrupted: the checkpoint of step {step} is in {tmp_path}" in process.text
    assert "Traceback" not in process.text
    process = runs.Process("main", *arguments)
    assert process.end() == 0, process.text
    assert f"resuming from step {step}" in process.text
    runs.same(runs.weights(tmp_path, 24), runs.weights(workdir, 24))
    assert runs.epochs(tmp_path) == runs.epochs(workdir)


def assert_nothing_is_left(process):
    until = time.monotonic() + 10
    while not process.is_gone() and time.monotonic() < until:
        time.sleep(0.1)
    assert process.is_gone(), "processes of it are left"


def begun_to_draw(*arguments):
    """A command that prepares a dataset of 500 images, in processes of its own, and is at it."""
    process = runs.Process("main", *arguments)
    assert process.wait_for("preparing ic_synthetic"), process.text
    time.sleep(5)  # in which they begin
    return process


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, INTERRUPTED), (signal.SIGINT, INTERRUPTED), (signal.SIGKILL, -9)],
    ids=["SIGTERM", "SIGINT", "SIGKILL"],
)
def test_a_training_that_has_not_begun_ends_at_a_signal(tmp_path, number, status):
    """As it prepares its dataset, of which nothing is left; nor is any of its processes."""
    data = tmp_path / "data"
    process = begun_to_draw(
        f"--config={SMALL_CONFIG}", "--config.dataset.config=optical_circuit",
        f"--config.dataset.data_dir={data}", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    process.signal(number)
    assert process.end(60) == status, process.text
    assert_nothing_is_left(process)
    assert "Traceback" not in process.text
    if status == INTERRUPTED:
        assert "interrupted: no step was done; run the same command again" in process.text
        assert not list(data.rglob("incomplete*"))
        held = files.lock(tmp_path / "run" / ".lock", "the workdir is still locked")
        held.release()


def test_processes_that_read_images_end_with_a_training_that_is_killed(small_training, tmp_path):
    process = runs.Process("main", *small_training, "--config.workers=2", f"--workdir={tmp_path}")
    assert process.wait_for("step 2/24"), process.text
    process.signal(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL
    assert_nothing_is_left(process)


def test_other_commands_end_at_sigterm(tmp_path):
    process = begun_to_draw(
        f"--config={SMALL_CONFIG}", "--config.dataset.config=optical_circuit", "--mode=prepare",
        f"--config.dataset.data_dir={tmp_path}",
    )  # fmt: skip
    process.signal(signal.SIGTERM)
    assert process.end(60) == 128 + signal.SIGTERM, process.text
    assert process.text.rstrip().endswith("terminated") and "Traceback" not in process.text
    assert not list(tmp_path.rglob("incomplete*"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_whose_exception_goes_nowhere_comes_again(name):
    """As those do that come while Python collects garbage."""
    code = f"""
import signal, time
from eal_icnet_jax.errors import told_to_user

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where a shell's job began this

class Collected:
    def __del__(self):
        signal.raise_signal(signal.{name})

with told_to_user():
    Collected()
    time.sleep(20)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 128 + getattr(signal, name), result.stderr
    assert result.stderr == ("terminated\n" if name == "SIGTERM" else "interrupted\n")


def test_a_validation_under_way_is_left_for_later(data_dir, workdir, tmp_path):
    """It would take longer than who stops a run waits; the run ends as if nothing had been."""
    config = small_config.on(data_dir)
    trainer = train.Trainer(config, tmp_path)
    validate = trainer.predictor.with_losses

    def signalled(*batch):
        if int(trainer.state.step) == 16:
            signal.raise_signal(signal.SIGTERM)
        return validate(*batch)

    trainer.predictor.with_losses = signalled
    with pytest.raises(Interrupted, match=r"the checkpoint of step 16 is in .*; run the same"):
        trainer.run()
    assert runs.steps(tmp_path)[-1] == 16
    assert [record["epoch"] for record in runs.epochs(tmp_path)] == [1]
    train.Trainer(config, tmp_path).run()
    runs.same(runs.weights(tmp_path, 24), runs.weights(workdir, 24))
    assert runs.epochs(tmp_path) == runs.epochs(workdir)


def test_a_second_interrupt_ends_at_once():
    with Interruption("stopping") as interruption:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_interrupting_other_commands_says_so(workdir, tmp_path):
    """Ctrl-C in `predict`: no traceback, and nothing half written."""
    process = runs.Process(
        "predict", f"--checkpoint={workdir}", "--input=docs", f"--output={tmp_path / 'o'}"
    )
    assert process.wait_for(r"\[1/"), process.text
    process.signal(signal.SIGINT)
    assert process.end() == 128 + signal.SIGINT, process.text
    assert process.text.rstrip().endswith("interrupted") and "Traceback" not in process.text
    assert not list((tmp_path / "o").glob(".*"))


def test_one_of_two_prepares_a_dataset_and_the_other_uses_it(tmp_path):
    arguments = [f"--config={SMALL_CONFIG}", f"--config.dataset.data_dir={tmp_path / 'data'}"]
    both = [runs.Process("main", *arguments, "--mode=prepare") for _ in range(2)]
    assert [process.end() for process in both] == [0, 0], both[0].text + both[1].text
    assert sum("preparing ic_synthetic" in process.text for process in both) == 1
    assert all("ic_synthetic/tiny/1.0.0 is prepared in" in process.text for process in both)


def test_a_second_trainer_in_one_workdir_refuses(data_dir, tmp_path):
    config = small_config.get_config()
    config.dataset.data_dir = str(data_dir)
    held = files.lock(tmp_path / ".lock", "")
    with pytest.raises(UserError, match="in use: another training writes it; wait for that"):
        train.Trainer(config, tmp_path)
    assert not (tmp_path / "config.json").exists()
    held.release()
    train.Trainer(config, tmp_path).workdir.release()
