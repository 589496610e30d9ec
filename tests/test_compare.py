"""The comparison trains what is missing, once, and tells what it would do."""

import csv
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import time

import pytest
from eal_icnet_jax.configs import ablation
from ml_collections import ConfigDict

from eal_icnet_jax import compare, models
from eal_icnet_jax.errors import INTERRUPTED, UserError
from tests import commands, runs, small_config

MODELS = ("eal_icnet", "without_tssa")


@pytest.fixture(scope="module")
def arguments(small_training):
    return [*small_training, f"--models={','.join(MODELS)}", "--trials=2", "--config.epochs=1"]


@pytest.fixture(scope="module")
def compared(arguments, tmp_path_factory):
    """Two networks, two trials of one epoch each."""
    path = tmp_path_factory.mktemp("compared") / "workdir"
    result = commands.run("compare", *arguments, f"--workdir={path}")
    assert result.returncode == 0, result.stderr
    assert "[4/4] without_tssa, trial 2" in result.stdout
    return path


def records(workdir):
    return list(csv.DictReader((workdir / "comparison.csv").open()))


def test_it_writes_what_the_trials_came_to(compared):
    for record, name in zip(records(compared), MODELS, strict=True):
        assert record["model"] == name and record["trials"] == "2"
        each = [
            json.loads((compared / name / f"trial_{k}/test/metrics.json").read_text())
            for k in (1, 2)
        ]
        for metric, own in each[0]["mean"]["label"].items():
            values = [own, each[1]["mean"]["label"][metric]]
            assert float(record[metric]) == pytest.approx(statistics.fmean(values))
            assert float(record[f"{metric}_std"]) == pytest.approx(statistics.stdev(values))
        assert float(record["images_per_second"]) > 0
        assert int(record["peak_bytes"]) > 1e8
    assert float(records(compared)[0]["relative_speed"]) == 1
    for ending in ("md", "tex", "png", "html"):
        assert (compared / f"comparison.{ending}").stat().st_size > 500
    page = (compared / "comparison.html").read_text()
    assert page.count('"data:image/png') >= 3 * 3  # label and two networks' errors of three images


def test_trials_have_seeds_of_their_own_and_variants_their_options(compared):
    for name, options in (("eal_icnet", {}), ("without_tssa", {"use_tssa": False})):
        configs = [
            json.loads((compared / name / f"trial_{k}/config.json").read_text()) for k in (1, 2)
        ]
        assert [config["seed"] for config in configs] == [0, 1]
        own = dict(small_config.get_config().model.options)
        assert configs[0]["model"]["options"] == json.loads(json.dumps({**own, **options}))


def test_what_is_done_is_not_done_again(compared, arguments, tmp_path):
    """One trial is lost: it alone is run, and everything but its time comes out the same."""
    workdir = tmp_path / "workdir"
    shutil.copytree(compared, workdir)
    before = records(workdir)
    shutil.rmtree(workdir / "without_tssa" / "trial_2")
    (workdir / "comparison.csv").unlink()
    result = commands.run("compare", *arguments, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "[1/1] without_tssa, trial 2" in result.stdout
    assert "measuring" not in result.stdout  # the first trials are measured, and they are there
    after = records(workdir)
    for record in (*before, *after):
        for key in ("trial_seconds", "training_peak_bytes"):
            del record[key]
    assert before == after


def test_what_another_command_has_done_is_left_as_it_is(compared):
    """Two commands in one workdir: the second to come to a trial keeps the first one's result."""
    config = ConfigDict(json.loads((compared / "eal_icnet/trial_1/config.json").read_text()))
    chosen = compare.contenders(config, list(MODELS), 2, compared)
    plan = compare.Plan(config, chosen).text()
    assert "to do" not in plan and plan.count("2 of 2") == 2
    files = chosen[0].trial(0).rglob("*")
    before = {path: path.stat().st_mtime_ns for path in files}
    assert compare.run_trial(chosen[0], 0)
    assert before == {path: path.stat().st_mtime_ns for path in chosen[0].trial(0).rglob("*")}


def test_a_signal_saves_the_trial_under_way(arguments, tmp_path):
    """It is passed on to the trial's process; the next run goes on from there."""
    process = runs.Process("compare", *arguments, f"--workdir={tmp_path}")
    assert process.wait_for(r"step 3/8"), process.text
    process.signal(signal.SIGTERM)
    assert process.end() == INTERRUPTED, process.text
    assert process.text.endswith("run the same command again to go on\n")
    (step,) = runs.steps(tmp_path / MODELS[0] / "trial_1")[-1:]
    assert 3 <= step < 8


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="no /proc")
def test_killed_it_leaves_no_trial_behind(arguments, tmp_path):
    """Its processes end with it, so that the next run finds the workdir alone."""
    command = commands.arguments("compare", *arguments, f"--workdir={tmp_path / 'workdir'}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("[1/4]"):
                break
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(trials := children.read_text().split()) < 2:  # the tracker, and the trial
            time.sleep(0.05)
        process.kill()
        process.stdout.read()  # to its end, which comes when nobody holds it open
    assert not any(pathlib.Path(f"/proc/{pid}/cwd").exists() for pid in trials)


def test_a_dry_run_tells_the_cost_and_leaves_nothing(small_training, tmp_path):
    workdir = tmp_path / "workdir"
    result = commands.run(
        "compare", *small_training, "--models=ablations", f"--workdir={workdir}", "--dry-run"
    )
    assert result.returncode == 0, result.stderr
    for name in ("eal_icnet", *ablation.ABLATIONS):
        assert f"\n{name} " in result.stdout
    assert "8 train, 3 validation, 3 test images" in result.stdout
    assert "to do: 27 trials" in result.stdout and "GFLOP/s in a matrix product" in result.stdout
    assert not workdir.exists()


def test_trials_that_fail_are_told_and_tried_again(small_training, tmp_path):
    """What ends a trial does not end the comparison."""
    told = commands.run(
        "compare", *small_training, "--models=eal_icnet", "--trials=1",
        "--config.batch_size=9", f"--workdir={tmp_path / 'workdir'}",
    )  # fmt: skip
    assert told.returncode == 1
    errors = [line for line in told.stderr.splitlines() if line.startswith(("error", "warning"))]
    assert errors[0].startswith("error: config.batch_size is 9, more than the 8 training images")
    assert errors[1] == "warning: eal_icnet trial 1 failed; going on with the others"
    assert errors[2].startswith("error: eal_icnet trial 1 failed: run the same command again")
    assert "Traceback" not in told.stderr


def test_bad_input_is_told(small_training, compared, tmp_path):
    where = ("--models=contextnet", "--workdir=/proc/nowhere")
    assert "/proc/nowhere cannot be written" in commands.told("compare", *small_training, *where)
    config = small_config.get_config()
    for change, names, trials, sentence in (
        ({}, ["unetty"], 3, "unknown model 'unetty' in --models: choose of all, ablations, eal_ic"),
        ({}, ["all"], 0, "--trials is 0"),
        ({"model.checkpoint": "there"}, ["all"], 3, "config.model.checkpoint is of one network"),
        (
            {"learning_rate": 0.5},
            ["eal_icnet"],
            1,
            "holds a run with another config, learning_rate",
        ),
    ):
        own = config.copy_and_resolve_references()
        own.update_from_flattened_dict(change)
        with pytest.raises(UserError, match=sentence):
            compare.contenders(own, names, trials, compared)
    with pytest.raises(UserError, match="no --workdir"):
        compare.compare(config, ["all"], 3, None, dry_run=False)


def test_groups():
    config = small_config.get_config()
    chosen = compare.contenders(config, ["all", "unet", "ablations"], 1, pathlib.Path("x"))
    assert [c.name for c in chosen] == [*models.MODELS, *ablation.ABLATIONS]
    assert chosen[0].configs[0].model.options == config.model.options
    assert not chosen[1].configs[0].model.options  # another network's options
    assert [c.title for c in chosen[-2:]] == ["dilations 2 4 6", "dilations 1 2 3"]
