"""Signals, and two commands in one place."""

import signal

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
