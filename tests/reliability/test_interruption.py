"""Signals: the step is finished, work is saved, and no process is left."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from eal_icnet_jax.imaging import png
from eal_icnet_jax.system import files
from eal_icnet_jax.system.errors import EXIT_INTERRUPTED, Interrupted
from eal_icnet_jax.system.signals import Interruption
from eal_icnet_jax.training import runs
from eal_icnet_jax.training.trainer import Trainer
from tests import small_config, trainings
from tests.conftest import SMALL_CONFIG


def test_a_signal_finishes_the_step_and_the_run_goes_on_bit_for_bit(
    data_dir, small_training, workdir, tmp_path
):
    """A run is interrupted twice, with its two reading processes. It ends without them."""
    command = (
        "main", *small_training, f"--workdir={tmp_path}", "--config.checkpoint_every_steps=0",
        "--config.workers=2",
    )  # fmt: skip
    seen = set()
    for number, first in ((signal.SIGTERM, 2), (signal.SIGINT, 10)):
        process = trainings.Process(*command)
        assert process.wait_for(f"step {first}/24"), process.text
        process.signal(number, whole_session=True)
        assert process.end() == EXIT_INTERRUPTED == 75, process.text
        (step,) = {step for step in trainings.steps(tmp_path) if step % 8} - seen
        seen.add(step)
        assert first <= step < first + 6
        assert f"{number.name}: finishing the step" in process.text
        assert f"interrupted: the checkpoint of step {step} is in {tmp_path}" in process.text
        assert "Traceback" not in process.text
    config = small_config.on(data_dir)
    config.checkpoint_every_steps = 0
    trainer = Trainer(config, tmp_path)
    assert int(trainer.state.step) == step
    trainer.run()
    trainings.assert_same_end(tmp_path, workdir)


def begin_to_draw(*arguments) -> trainings.Process:
    """Start a command that prepares 500 images, and wait for the processes that draw them."""
    process = trainings.Process(
        "main", f"--config={SMALL_CONFIG}", "--config.dataset.config=optical_circuit", *arguments
    )
    assert process.wait_for("preparing ic_synthetic"), process.text
    process.wait_for_children(2)
    return process


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, EXIT_INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["SIGTERM", "SIGKILL"],
)
def test_a_training_that_prepares_its_data_ends_at_a_signal_with_all_its_processes(
    tmp_path, number, status
):
    data = tmp_path / "data"
    run = tmp_path / "run"
    process = begin_to_draw(f"--config.dataset.data_dir={data}", f"--workdir={run}")
    process.signal(number)
    assert process.end(60) == status, process.text
    process.assert_nothing_left()
    if status == EXIT_INTERRUPTED:  # a process whose parent is killed while it starts has its say
        assert "Traceback" not in process.text
        assert "interrupted: no step was done; run the same command again" in process.text
        assert not list(data.rglob("incomplete*"))
        files.lock(run / ".lock", "the workdir is still locked").release()


def test_ctrl_c_before_the_first_step_is_an_interruption(
    data_dir, tmp_path, monkeypatch, heeded_ctrl_c
):
    """Ctrl-C while the data are prepared leaves the workdir unlocked."""

    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_open_data", interrupt)
    with pytest.raises(Interrupted, match="no step was done; run the same command again to go on"):
        runs.train(small_config.on(data_dir), tmp_path)
    files.lock(tmp_path / ".lock", "the workdir is still locked").release()


def test_other_commands_end_at_sigterm(tmp_path):
    process = begin_to_draw("--mode=prepare", f"--config.dataset.data_dir={tmp_path}")
    process.signal(signal.SIGTERM)
    assert process.end(60) == 128 + signal.SIGTERM, process.text
    assert process.text.rstrip().endswith("terminated") and "Traceback" not in process.text
    assert not list(tmp_path.rglob("incomplete*"))


def test_other_commands_end_at_ctrl_c(workdir, tmp_path):
    """Without a traceback and half-written files."""
    (tmp_path / "in").mkdir()
    for index in range(6):
        png.write(tmp_path / "in" / f"{index}.png", np.zeros((512, 512), np.uint8))
    process = trainings.Process(
        "predict", tmp_path / "in", f"--checkpoint={workdir}", f"--output={tmp_path / 'out'}"
    )
    assert process.wait_for(r"\[1/"), process.text
    process.signal(signal.SIGINT)
    assert process.end() == 128 + signal.SIGINT, process.text
    assert process.text.rstrip().endswith("interrupted") and "Traceback" not in process.text
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_whose_exception_is_swallowed_is_sent_again(name):
    """Python swallows an exception that is raised while it collects garbage."""
    code = f"""
import signal, time
from eal_icnet_jax.system.command_process import exit_on_user_error

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

class Collected:
    def __del__(self):
        signal.raise_signal(signal.{name})

with exit_on_user_error():
    Collected()
    time.sleep(20)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 128 + getattr(signal, name), result.stderr
    assert result.stderr == ("terminated\n" if name == "SIGTERM" else "interrupted\n")


def test_a_validation_is_given_up_at_a_signal_and_done_when_the_run_goes_on(
    data_dir, workdir, tmp_path
):
    config = small_config.on(data_dir)
    trainer = Trainer(config, tmp_path)
    validate = trainer.predictor.with_losses

    def signalled(*batch):
        if int(trainer.state.step) == 16:
            signal.raise_signal(signal.SIGTERM)
        return validate(*batch)

    trainer.predictor.with_losses = signalled
    with pytest.raises(Interrupted, match=r"the checkpoint of step 16 is in .*; run the same"):
        trainer.run()
    assert trainings.steps(tmp_path)[-1] == 16
    assert [record["epoch"] for record in trainings.epochs(tmp_path)] == [1]
    Trainer(config, tmp_path).run()
    trainings.assert_same_end(tmp_path, workdir)


def test_a_second_interrupt_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption("stopping") as interruption:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before
