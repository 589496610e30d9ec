"""A comparison trains what is missing, once, and writes what the networks reach and cost."""

import csv
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import time

import pytest
from ml_collections import ConfigDict

from eal_icnet_jax import models
from eal_icnet_jax.comparison import contenders, measurement, plan, results, table, trials
from eal_icnet_jax.comparison.compare import compare
from eal_icnet_jax.configs import ablation
from eal_icnet_jax.system.errors import EXIT_INTERRUPTED, UserError
from tests import cli, small_config, trainings

MODELS = ("eal_icnet", "without_tssa")


@pytest.fixture(scope="module")
def arguments(small_training):
    return [*small_training, f"--models={','.join(MODELS)}", "--trials=2", "--config.epochs=1"]


@pytest.fixture(scope="module")
def compared(arguments, tmp_path_factory):
    """Two networks, two trials of one epoch each."""
    path = tmp_path_factory.mktemp("compared") / "workdir"
    result = cli.run("compare", *arguments, f"--workdir={path}")
    assert result.returncode == 0, result.stderr
    assert "[4/4] without_tssa, trial 2" in result.stdout
    return path


def records(workdir):
    return list(csv.DictReader((workdir / "comparison.csv").open()))


def test_the_files_hold_the_results_of_the_trials(compared):
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
    assert (
        page.count('"data:image/png') >= 3 * 3
    )  # a label and two networks' errors for three images


def test_trials_have_their_own_seeds_and_variants_their_options(compared):
    for name, options in (("eal_icnet", {}), ("without_tssa", {"use_tssa": False})):
        configs = [
            json.loads((compared / name / f"trial_{k}/config.json").read_text()) for k in (1, 2)
        ]
        assert [config["seed"] for config in configs] == [0, 1]
        own = dict(small_config.get_config().model.options)
        assert configs[0]["model"]["options"] == json.loads(json.dumps({**own, **options}))


def test_finished_work_is_not_repeated(compared, arguments, tmp_path):
    """One trial is lost: only that one is run, and everything but its time stays the same."""
    workdir = tmp_path / "workdir"
    shutil.copytree(compared, workdir)
    before = records(workdir)
    shutil.rmtree(workdir / "without_tssa" / "trial_2")
    (workdir / "comparison.csv").unlink()
    result = cli.run("compare", *arguments, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "[1/1] without_tssa, trial 2" in result.stdout
    assert (
        "measuring" not in result.stdout
    )  # the first trials, which are kept, are the measured ones
    after = records(workdir)
    for record in (*before, *after):
        for key in ("trial_seconds", "training_peak_bytes"):
            del record[key]
    assert before == after


def plan_of(workdir) -> plan.Plan:
    """Return the plan of a finished comparison of `MODELS`."""
    config = ConfigDict(json.loads((workdir / "eal_icnet/trial_1/config.json").read_text()))
    return plan.Plan(config, contenders.choose_contenders(config, list(MODELS), 2, workdir))


def test_speeds_are_relative_to_a_network_that_was_measured(compared, tmp_path, capfd):
    """The first network's checkpoint is damaged, so that only the second one can be measured."""
    workdir = tmp_path / "workdir"
    shutil.copytree(compared, workdir)
    shutil.rmtree(workdir / "eal_icnet" / "trial_1" / "checkpoints")
    lines = []
    own = plan_of(workdir)
    measured = measurement.measure_all(own, workdir / "new.json", lines.append)
    assert lines == ["measuring eal_icnet", "measuring without_tssa"]
    assert "warning: eal_icnet cannot be measured: UserError: " in capfd.readouterr().err
    assert measured["reference"] == "without_tssa"
    assert list(measured["models"]) == ["without_tssa"]
    rows = results.read_rows(own, measured)
    assert [row.relative_speed for row in rows] == [None, 1]
    text = " ".join(results.notes(own, measured, rows))
    assert "speed relative to without TSSA and peak memory are those of prediction" in text
    assert "Speed and memory of EAL-ICNet could not be measured." in text
    assert "relative to EAL-ICNet" not in text


def test_a_comparison_without_any_measurement_says_so(compared):
    own = plan_of(compared)
    measured = {"device": "", "reference": "", "models": {}}
    rows = results.read_rows(own, measured)
    assert results.notes(own, measured, rows)[-1].endswith("No network could be measured.")
    assert table.terminal_table(rows).count("\n") == 3


def test_the_result_of_another_command_is_kept(compared):
    """Of two commands in one workdir, the second to reach a trial keeps the first's result."""
    own = plan_of(compared)
    chosen, text = own.contenders, own.text()
    assert "to do" not in text and text.count("2 of 2") == 2
    files = chosen[0].trial_folder(0).rglob("*")
    before = {path: path.stat().st_mtime_ns for path in files}
    assert trials.run_trial(chosen[0], 0) == ""
    assert before == {
        path: path.stat().st_mtime_ns for path in chosen[0].trial_folder(0).rglob("*")
    }


def test_a_signal_saves_the_trial_under_way(arguments, tmp_path):
    """It is passed on to the trial's process."""
    process = trainings.Process("compare", *arguments, f"--workdir={tmp_path}")
    assert process.wait_for(r"step 3/8"), process.text
    process.signal(signal.SIGTERM)
    assert process.end() == EXIT_INTERRUPTED, process.text
    assert process.text.endswith("run the same command again to go on\n")
    (step,) = trainings.steps(tmp_path / MODELS[0] / "trial_1")[-1:]
    assert 3 <= step < 8


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="no /proc")
def test_no_trial_outlives_a_command_that_is_killed(arguments, tmp_path):
    """The next run then finds the workdir unlocked."""
    command = cli.arguments("compare", *arguments, f"--workdir={tmp_path / 'workdir'}")
    environment = cli.default_environment()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line.startswith("[1/4]"):
                break
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(pids := children.read_text().split()) < 2:  # resource tracker and trial
            time.sleep(0.05)
        process.kill()
        process.stdout.read()  # ends when no process holds it open
    assert not any(pathlib.Path(f"/proc/{pid}/cwd").exists() for pid in pids)


def test_a_dry_run_shows_the_cost_and_writes_nothing(small_training, tmp_path):
    workdir = tmp_path / "workdir"
    names = f"--models={','.join(MODELS)}"
    result = cli.run("compare", *small_training, names, f"--workdir={workdir}", "--dry-run")
    assert result.returncode == 0, result.stderr
    for name in MODELS:
        assert f"\n{name} " in result.stdout
    assert "8 train, 3 validation, 3 test images" in result.stdout
    assert "to do: 6 trials" in result.stdout and "GFLOP/s in a matrix product" in result.stdout
    assert not workdir.exists()


def test_a_failed_trial_is_reported_and_does_not_end_the_comparison(small_training, tmp_path):
    result = cli.run(
        "compare", *small_training, "--models=eal_icnet", "--trials=1",
        "--config.batch_size=9", f"--workdir={tmp_path / 'workdir'}",
    )  # fmt: skip
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error", "warning"))]
    assert lines[0].startswith(
        "warning: eal_icnet trial 1 failed, going on with the others: config.batch_size is 9, more "
        "than the 8 training images"
    )
    assert lines[1].startswith("error: eal_icnet trial 1 failed: run the same command again")
    assert len(lines) == 2 and "Traceback" not in result.stderr


def test_wrong_input_is_reported(small_training, compared, tmp_path):
    where = ("--models=contextnet", "--workdir=/proc/nowhere")
    assert "/proc/nowhere cannot be written" in cli.error_of("compare", *small_training, *where)
    config = small_config.get_config()
    for change, names, count, sentence in (
        (
            {},
            ["unetty"],
            3,
            "unknown model 'unetty' in --models: choose from all, ablations, eal_ic",
        ),
        ({}, ["all"], 0, "--trials is 0"),
        ({"model.checkpoint": "x"}, ["all"], 3, "checkpoint belongs to a single network"),
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
            contenders.choose_contenders(own, names, count, compared)
    with pytest.raises(UserError, match="no --workdir"):
        compare(config, ["all"], 3, None)


def test_files_of_other_programs_are_kept(small_training, tmp_path):
    foreign = tmp_path / "comparison.csv"
    foreign.write_text("mine\n")
    error = cli.error_of("compare", *small_training, "--models=fcn", f"--workdir={tmp_path}")
    assert f"{foreign} exists and was not written by this program" in error
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.csv"]


def test_a_group_names_several_networks():
    config = small_config.get_config()
    chosen = contenders.choose_contenders(
        config, ["all", "unet", "ablations"], 1, pathlib.Path("x")
    )
    assert [c.name for c in chosen] == [*models.MODELS, *ablation.ABLATIONS]
    assert chosen[0].configs[0].model.options == config.model.options
    assert not chosen[1].configs[0].model.options  # the options of another network
    assert [c.title for c in chosen[-2:]] == ["dilations 2 4 6", "dilations 1 2 3"]
