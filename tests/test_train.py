"""Training as a user runs it: its files, resuming, early stopping, and what it refuses."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from eal_icnet_jax import checkpoints, input_pipeline, train
from eal_icnet_jax.errors import UserError
from tests import commands, runs, small_config


def test_a_run_leaves_its_files(workdir):
    config = json.loads((workdir / "config.json").read_text())
    assert config["epochs"] == 3
    assert "init_conv.0.conv.kernel" in (workdir / "parameters.txt").read_text()
    logged = runs.records(workdir)
    assert [r["epoch"] for r in logged if "validation_loss" in r] == [1, 2, 3]
    assert {"loss", "images_per_second"} <= logged[0].keys()
    assert all(math.isfinite(value) for record in logged for value in record.values())
    losses = [r["train_loss"] for r in logged if "train_loss" in r]
    assert losses[-1] < losses[0]
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert (workdir / "curves.png").stat().st_size > 5000
    assert (workdir / "test" / "metrics.csv").exists()
    assert len(list((workdir / "test").glob("worst_*.png"))) == 1
    text = (workdir / "stdout.txt").read_text()
    assert "epoch 3/3" in text and "images/s" in text and "left" in text and "mIoU" in text


def test_the_test_report_averages_the_images(workdir):
    report = json.loads((workdir / "test" / "metrics.json").read_text())
    with (workdir / "test" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert report["images"] == len(rows) == 3
    for name, value in report["mean"]["label"].items():
        assert value == pytest.approx(np.mean([float(row[name]) for row in rows]))


def test_best_and_latest_checkpoints_are_kept(workdir):
    """Of 24 steps with one every 3 and one an epoch, the best and the two latest remain."""
    steps = {int(path.name) for path in (workdir / "checkpoints").iterdir()}
    epochs = {r["step"]: r["validation_loss"] for r in runs.epochs(workdir)}
    best = min(epochs, key=epochs.get)
    assert {best, 24} <= steps and len(steps) <= 3
    assert checkpoints.resolve(workdir).name == str(best)


def test_killed_between_checkpoints_and_run_again_is_the_same_run(
    workdir, small_training, tmp_path
):
    """SIGKILL after step 13 of 24, mid-epoch: the weights end bit for bit, the logs continue."""
    killed = tmp_path / "killed"
    command = commands.arguments("main", *small_training, f"--workdir={killed}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "step 13/24" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    result = commands.run("main", *small_training, f"--workdir={killed}")
    assert result.returncode == 0, result.stderr
    assert "resuming from step" in result.stdout
    runs.same(runs.weights(killed, 24), runs.weights(workdir, 24))

    def timeless(run):
        return [{k: v for k, v in r.items() if k != "images_per_second"} for r in runs.records(run)]

    resumed = {(r["step"], "epoch" in r): r for r in timeless(killed)}
    assert len(resumed) == len(timeless(killed)), "a step is logged twice"
    for record in timeless(workdir):
        # The first step of a process is not timed, so a resumed run lacks the line of one step.
        assert resumed.get((record["step"], "epoch" in record), record) == record


def test_a_finished_run_trains_no_further(workdir, small_training, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(workdir, again)
    result = commands.run("main", *small_training, f"--workdir={again}")
    assert result.returncode == 0, result.stderr
    assert "epoch 3/3" not in result.stdout and "test split, 3 images" in result.stdout
    runs.same(runs.weights(again, 24), runs.weights(workdir, 24))


def test_evaluate_mode_reports_as_training_did(workdir, small_training, tmp_path):
    result = commands.run(
        "main", *small_training, "--mode=evaluate", f"--checkpoint={workdir}",
        f"--workdir={tmp_path}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    new = json.loads((tmp_path / "test" / "metrics.json").read_text())
    old = json.loads((workdir / "test" / "metrics.json").read_text())
    assert new == old


def test_more_devices_compute_the_same_step(tmp_path):
    """Loss, batch statistics and weights of a step over two devices are those of one device.

    Nothing is exchanged within a loop: several processes on CPU would mix that with other sums.
    """
    code = """
import sys, numpy as np, jax, optax
from flax import nnx
from eal_icnet_jax import checkpoints, models, train
model = models.create_model("eal_icnet", rngs=nnx.Rngs(0), block_1_dilations=(2,),
                            block_2_dilations=(4,))
optimizer = optax.sgd(0.1)
graphdef, state = train.initial_state(model, optimizer)
step = train.make_train_step(graphdef, optimizer, {})
rng = np.random.default_rng(0)
batch = {"image": rng.random((4, 64, 64, 1), np.float32), "label": rng.random((4, 64, 64, 1)) > 0.5}
program = step.lower(state, batch).compile()
loops = [line for line in program.as_text().splitlines() if "/while/body" in line]
exchanges = sum("all-reduce(" in line for line in loops)
state, _ = program(state, batch)
arrays = checkpoints.weight_arrays(state.params, state.others)
loss = state.running.compute()["loss"]
np.savez(sys.argv[1], loss=loss, devices=jax.device_count(), loops=len(loops), exchanges=exchanges,
         **arrays)
"""
    results = []
    for devices in (1, 2):
        out = tmp_path / f"{devices}.npz"
        flags = f"--xla_force_host_platform_device_count={devices}"
        subprocess.run(
            [sys.executable, "-c", code, str(out)],
            check=True,
            env={**os.environ, "XLA_FLAGS": flags},
        )
        results.append(dict(np.load(out)))
    one, two = results
    assert (one.pop("devices"), two.pop("devices")) == (1, 2)
    assert all(result.pop("loops") for result in results)
    assert [result.pop("exchanges") for result in results] == [0, 0]
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_another_network_trains(data_dir, tmp_path):
    """One with dropout, whose random state is part of the checkpoint."""
    result = commands.run(
        "main",
        f"--config={small_config.__file__}:contextnet",
        f"--workdir={tmp_path}",
        f"--config.dataset.data_dir={data_dir}",
        "--config.epochs=1",
    )
    assert result.returncode == 0, result.stderr
    assert checkpoints.load_model(tmp_path).spec.name == "contextnet"
    report = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert 0 < report["mean"]["label"]["mIoU"] < 1


def test_early_stopping_as_released():
    """A gain below min_delta keeps new weights and still counts towards stopping."""
    stopping = train.EarlyStopping()
    for step, loss in enumerate([0.5, 0.4, 0.39999, 0.45, 0.3], 1):
        stopping.update(loss, step, 1e-3)
    assert (stopping.best_loss, stopping.best_step) == (0.3, 5)
    assert stopping.epochs_without_gain == 0
    stopping.update(0.3, 6, 1e-3)
    stopping.update(0.2999, 7, 1e-3)
    assert (stopping.best_step, stopping.epochs_without_gain) == (7, 2)


def test_training_stops_early(data_dir, tmp_path):
    """With a min_delta that no epoch reaches, patience 1 ends the run after its second epoch."""
    config = small_config.on(data_dir)
    config.early_stopping.patience, config.early_stopping.min_delta = 1, 1e9
    train.Trainer(config, tmp_path).run()
    assert [r["epoch"] for r in runs.epochs(tmp_path)] == [1, 2]


def test_a_loss_that_is_not_finite_stops_with_its_step(data_dir, tmp_path):
    """The last good checkpoint stays, and is where the run goes on."""
    config = small_config.on(data_dir)
    config.epochs = 1
    train.Trainer(config, tmp_path).run()
    config.epochs = 2
    trainer = train.Trainer(config, tmp_path)
    poisoned = jax.tree.map(lambda a: a * np.nan, trainer.state.params)
    trainer.state = trainer.state._replace(params=poisoned)
    names = ", ".join(trainer.batches.names(8))
    told = f"the loss of step 9 became NaN or infinite on images {names}; the checkpoint of step 8"
    with pytest.raises(UserError, match=told):
        trainer.run()
    assert train.Trainer(config, tmp_path).checkpoints.latest_step() == 8
    assert all(np.all(np.isfinite(value)) for value in runs.weights(tmp_path, 8).values())


def test_fine_tuning_starts_from_a_checkpoint(data_dir, workdir, tmp_path):
    config = small_config.on(data_dir)
    config.model.checkpoint = str(workdir)
    trainer = train.Trainer(config, tmp_path)
    best = int(checkpoints.resolve(workdir).name)
    state = trainer.state
    runs.same(checkpoints.weight_arrays(state.params, state.others), runs.weights(workdir, best))
    assert int(state.step) == 0
    config.model.in_channels = 3
    with pytest.raises(UserError, match=r"in_channels=1, but the config asks for .* in_channels=3"):
        train.create_model(config)


def test_dropout_keys_are_saved_and_restored(data_dir, tmp_path):
    config = small_config.on(data_dir)
    config.epochs = 1
    with config.unlocked():
        config.model.options.dropout = 0.5
    trainer = train.Trainer(config, tmp_path)
    before = trainer._arrays()[1]
    trainer.run()
    after = trainer._arrays()[1]
    names = [name for name in before if name.startswith("others.")]
    assert any(not np.array_equal(before[name], after[name]) for name in names)
    again = train.Trainer(config, tmp_path)._arrays()[1]
    runs.same(after, again)


def test_bad_commands_are_told(small_training, tmp_path):
    run = [*small_training, f"--workdir={tmp_path / 'run'}"]
    file = tmp_path / "file"
    file.touch()
    none = f"--config.dataset.data_dir={tmp_path / 'none'}"
    cases = [
        ([*run, "--config.bach_size=2"], "bach_size"),
        ([*run, none, "--config.dataset.prepare=0"], "same config and --mode=prepare first"),
        ([*small_training, f"--workdir={file / 'run'}"], "cannot be written: Not a directory"),
        ([f"--workdir={tmp_path}"], "no config"),
        (["--config=nowhere.py", f"--workdir={tmp_path}"], "nowhere.py"),
        (["--config=configs/cross.py:omq", f"--workdir={tmp_path}"], "ValueError: no dataset"),
        ([*run, "--mode=fly"], "train|evaluate|prepare|verify"),
        ([*run, "--mode=evaluate", "--processes=2"], "--processes does nothing with --mode=eval"),
        (["--mode=verify", file, "--checkpoint=a"], "--checkpoint does nothing with --mode=verify"),
    ]
    for argv, sentence in cases:
        assert sentence in commands.told("main", *argv), argv


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("model.name", "unet3", "unknown model 'unet3': choose one of eal_icnet"),
        ("dataset.name", "omx", "unknown dataset 'omx': choose one of hy5syn"),
        ("dataset.config", "huge", "no config 'huge': choose one of optical_circuit"),
        ("dataset.labels", ("label", "wire"), "no label wire: its features are"),
        ("batch_size", 9, "config.batch_size is 9, more than the 8 training images"),
        ("epochs", 0, "config.epochs is 0: it must be at least 1"),
        ("model.in_channels", 2, "images have 1 or 3 channels, but the model takes 2"),
        ("dataset.crop_size", 128, "smaller than the crop"),
    ],
)
def test_bad_values_are_told_and_leave_no_run_behind(data_dir, tmp_path, key, value, told):
    config = small_config.on(data_dir)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=told):
        train.train(config, tmp_path)
    with pytest.raises(UserError, match="holds no checkpoint"):
        train.evaluate(small_config.on(data_dir), tmp_path)


def test_a_damaged_workdir_is_told(data_dir, tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match=r"config\.json is damaged .* use a new --workdir"):
        train.Trainer(small_config.on(data_dir), tmp_path)


def test_another_config_in_the_same_workdir_is_told(data_dir, workdir):
    config = small_config.on(data_dir)
    config.seed = 1
    with pytest.raises(UserError, match=r"another config, seed \(0 there, 1 here\)"):
        train.Trainer(config, workdir)


def test_a_config_file_with_an_unknown_key_is_told(data_dir):
    config = small_config.on(data_dir)
    with config.unlocked():
        config.optimiser = "sgd"
    with pytest.raises(UserError, match="unknown key optimiser"):
        train.check_config(config)


def test_resuming_with_other_data_is_told(data_dir):
    config = small_config.on(data_dir)
    source = input_pipeline.open_split(config.dataset, "train")
    state = input_pipeline.TrainingBatches(config, source).get_state()
    config.seed = 5
    with pytest.raises(UserError, match="other data, or with another seed"):
        input_pipeline.TrainingBatches(config, source).set_state(state)
