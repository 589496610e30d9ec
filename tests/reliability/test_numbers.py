"""Losses and gradients that are no numbers, or would be, and what is recorded of a run."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eal_icnet_jax import images, input_pipeline, losses, metrics, train, verify
from eal_icnet_jax.errors import UserError
from tests import commands, small_config, tree_config


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_step_and_its_images_are_named_wherever_the_numbers_end(data_dir, tmp_path, bad):
    """Of a parameter that becomes infinite, of an image that is not finite: found at that step."""
    config = small_config.on(data_dir)
    config.log_every_steps = 100
    trainer = train.Trainer(config, tmp_path)
    step, count = trainer.train_step, []

    def poisoned(state, batch):
        count.append(1)
        if len(count) == 3:
            batch = {**batch, "image": batch["image"] * bad}
        return step(state, batch)

    trainer.train_step = poisoned
    (name,) = trainer.batches.names(2)
    told = f"the loss of step 3 became NaN or infinite on images {name}; there is no checkpoint yet"
    with pytest.raises(UserError, match=told):
        trainer.run()
    assert len(count) <= 4, "it went on"


def test_parameters_and_gradients_are_checked_too():
    assert bool(train.all_finite({"a": jnp.ones(3), "b": jnp.zeros((2, 2))}))
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not bool(train.all_finite({"a": jnp.ones(3), "b": jnp.array([0.0, bad])}))


def test_names_are_those_of_the_batch(data_dir):
    config = small_config.on(data_dir)
    config.batch_size, config.epochs = 2, 2
    for key in config.augmentation:
        config.augmentation[key] = type(config.augmentation[key])(0)
    source = input_pipeline.open_split(config.dataset, "train")
    by_name = {example["name"].decode(): example for example in source}
    batches = input_pipeline.TrainingBatches(config, source)
    for k, (batch, _) in enumerate(batches):
        for name, image in zip(batches.names(k), batch["image"], strict=True):
            want = images.to_unit_range(images.decode(by_name[name]["image"], name), 1)
            np.testing.assert_array_equal(image, want)


def test_gradients_are_clipped_where_the_config_says_so():
    config = small_config.get_config()
    params, huge = {"a": jnp.zeros(4)}, {"a": jnp.full(4, 50.0)}

    def moment(norm):
        config.gradient_clip_norm = norm
        optimizer = train.make_optimizer(config)
        _, state = optimizer.update(huge, optimizer.init(params), params)
        return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(state) if leaf.ndim)

    assert moment(0.0) == pytest.approx(5.0)  # a tenth of the gradient
    assert moment(1.0) == pytest.approx(0.05)  # of one of norm 1
    for wrong in (-1.0, float("nan")):
        config.gradient_clip_norm = wrong
        with pytest.raises(UserError, match="gradient_clip_norm is"):
            train.check_config(config)


@pytest.mark.parametrize("level", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("foreground", [False, True])
def test_loss_and_metrics_of_one_class_are_numbers(level, foreground):
    """Images that are all background, or all foreground, predicted as either, however surely."""
    logits = jnp.full((2, 8, 8, 1), level)
    targets = jnp.full((2, 8, 8, 1), foreground)
    value, gradient = jax.value_and_grad(losses.bce_dice_loss)(logits, targets)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    label = np.full((8, 8), foreground)
    figures = metrics.evaluate_masks(label, np.full((8, 8), level > 0))
    assert all(0 <= value <= 1 for value in figures.values())
    counts = metrics.electrically_significant_differences(label, ~label)
    assert counts.opens >= 0


def test_training_on_background_alone_ends_with_numbers(sample_trees, tmp_path):
    tree = tmp_path / "omv"
    shutil.copytree(sample_trees / "omv", tree)
    for path in (tree / "label").iterdir():
        images.write(path, np.zeros_like(images.read(path)))
    run = tmp_path / "run"
    result = commands.run(
        "main",
        f"--config={tree_config.__file__}:omv",
        f"--config.dataset.manual_dir={tree}",
        f"--config.dataset.data_dir={tmp_path / 'data'}",
        "--config.epochs=1",
        f"--workdir={run}",
    )
    assert result.returncode == 0, result.stderr
    told = (run / "test" / "metrics.json").read_text() + (run / "metrics.jsonl").read_text()
    assert "NaN" not in told and "Infinity" not in told


def test_what_a_run_was_made_with_is_recorded(workdir):
    record = json.loads((workdir / "provenance.json").read_text())
    assert record["seed"] == 0
    ((name, digest),) = record["data_sha256"].items()
    assert name == "ic_synthetic/tiny/1.0.0" and len(digest) == 64
    (start,) = record["starts"]
    assert start["step"] == 0 and {"python", "jax", "flax", "orbax-checkpoint"} <= set(
        start["versions"]
    )
    assert start["git_commit"] is None or len(start["git_commit"].rstrip("+")) == 40


def test_other_data_is_not_trained_on(data_dir, workdir, tmp_path):
    """A byte of a record file, which training would read as another picture."""
    copy, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(workdir, copy)
    shutil.copytree(data_dir, data)
    record = next(data.rglob("*train.array_record*"))
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 1
    record.write_bytes(content)
    with pytest.raises(UserError, match=r"ic_synthetic/tiny/1\.0\.0 is not what the run in"):
        train.Trainer(small_config.on(data), copy)


def test_verify_says_that_the_figures_hold(workdir):
    result = commands.run("main", "--mode=verify", workdir)
    assert result.returncode == 0, result.stderr
    assert "all figures of 3 test images and the validation loss hold exactly" in result.stdout
    assert f"{workdir} is verified" in result.stdout


@pytest.mark.parametrize("what", ["figure", "validation", "weights", "data"])
def test_verify_finds_what_does_not_hold(data_dir, workdir, tmp_path, what):
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    given = None
    if what == "figure":
        path = copy / "test" / "metrics.json"
        report = json.loads(path.read_text())
        report["mean"]["label"]["mIoU"] += 0.01
        path.write_text(json.dumps(report))
        told = r"mean mIoU of label is 0\.\d+, recorded is 0\.\d+"
    elif what == "validation":
        path = copy / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for record in lines:
            if "validation_loss" in record:
                record["validation_loss"] *= 1.1
        path.write_text("".join(json.dumps(record) + "\n" for record in lines))
        told = "validation loss is"
    elif what == "weights":
        best = train.checkpoints.resolve(copy)
        file = max(best.glob("model/ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        told = "is damaged"
    else:
        path = copy / "provenance.json"
        record = json.loads(path.read_text())
        record["data_sha256"] = dict.fromkeys(record["data_sha256"], "0" * 64)
        path.write_text(json.dumps(record))
        told = "is not the data of the run"
    with pytest.raises(UserError, match=told):
        verify.verify(copy, given)


def test_verify_needs_a_run(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json: name the workdir of a training"):
        verify.verify(tmp_path)
    assert "name one workdir to verify, not 0" in commands.told("main", "--mode=verify")
