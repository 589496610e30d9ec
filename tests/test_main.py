"""`python -m eal_icnet_jax.main` and `eal-icnet` check their arguments and run one command."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from eal_icnet_jax.__main__ import COMMANDS
from eal_icnet_jax.imaging import png
from tests import cli

HEAVY = (
    "cv2", "flax", "grain", "jax", "jaxlib", "matplotlib", "ml_collections", "numpy", "optax",
    "orbax", "scipy", "tensorflow", "tensorflow_datasets", "tifffile", "zarr",
)  # fmt: skip

LIGHT_CALLS = """
import contextlib, importlib, io, json, sys

results = []
for module, argv in json.loads(sys.argv[1]):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module(module).main(argv)
        except SystemExit as end:
            status = end.code or 0
    loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(json.loads(sys.argv[2])))
    results.append([status, out.getvalue(), err.getvalue(), loaded])
print(json.dumps(results))
"""


def light_calls(calls: list[tuple[str, list[str]]]) -> list:
    """Call `main` of modules in one process; return status, output, error, heavy modules."""
    command = [sys.executable, "-c", LIGHT_CALLS, json.dumps(calls), json.dumps(HEAVY)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_help_of_every_command_imports_nothing_heavy():
    """So that it answers at once."""
    calls = [("eal_icnet_jax.__main__", ["--help"]), ("eal_icnet_jax.__main__", ["--version"])]
    calls += [("eal_icnet_jax.__main__", [name, "--help"]) for name in COMMANDS]
    calls += [("eal_icnet_jax.main", ["--help"]), ("eal_icnet_jax.convert", ["--help"])]
    calls += [("eal_icnet_jax.convert", ["from-torch", "--help"])]
    for call, (status, out, err, loaded) in zip(calls, light_calls(calls), strict=True):
        assert (status, err, loaded) == (0, "", []), call
        assert len(out.splitlines()) > 3 or "--version" in call[1], call


def test_a_prediction_imports_only_what_it_needs(tmp_path):
    """A PNG and packaged weights need no Zarr, Orbax, Matplotlib or Grain, and later no Flax."""
    grey = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    png.write(tmp_path / "a.png", grey)
    for out_dir, unneeded in (("first", set()), ("later", {"flax", "optax"})):
        argv = ["predict", str(tmp_path / "a.png"), "-o", str(tmp_path / out_dir), "--scale=1"]
        ((status, out, _, loaded),) = light_calls([("eal_icnet_jax.__main__", argv)])
        assert status == 0 and "1 of 1 images" in out
        unneeded |= {"zarr", "orbax", "matplotlib", "grain", "tensorflow"}
        assert not {*loaded} & unneeded


@pytest.mark.parametrize("has_torch", [False, True])
def test_a_training_does_not_import_torch(tmp_path, has_torch):
    """TensorBoard's writer would, where it is installed, and leaves it alone if it is there."""
    pytest.importorskip("torch")
    before = "import torch" if has_torch else "torch = None"
    code = f"""
import sys
{before}
from eal_icnet_jax.training import runs, workdir
assert "matplotlib" not in sys.modules
writer = workdir._event_writer({str(tmp_path)!r}, 1)
writer.add_scalar("loss", 0.5, 1)
writer.close()
assert sys.modules.get("torch") is torch
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name a command"),
        (["fly"], "invalid choice: 'fly'"),
        (["predict", "in", "-o", "out", "--checkpoint=run", "--fly"], "unknown argument --fly"),
        (["predict"], "the following arguments are required: "),
        (["predict", "in", "-o", "out", "--checkpoint=run", "--batch=many"], "'many'"),
        (["convert", "fly"], "invalid choice: 'fly'"),
        (["draw", "dataset", "x", "out"], "invalid choice: 'x'"),
    ],
)
def test_a_wrong_argument_is_reported_in_one_line_without_heavy_imports(argv, message):
    ((status, out, err, loaded),) = light_calls([("eal_icnet_jax.__main__", argv)])
    assert (status, out, loaded) == (2, "", [])
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line
    assert line.endswith(" --help")


def test_completion_scripts_know_every_command_and_option():
    pytest.importorskip("shtab")
    ((status, out, _, _),) = light_calls([("eal_icnet_jax.__main__", ["--print-completion=bash"])])
    assert status == 0
    assert all(name in out for name in COMMANDS) and "--checkpoint" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config.bach_size=2"], "bach_size"),
        (["--mode=fly"], "'train', 'evaluate', 'prepare', 'verify'"),
        (["--mode=evaluate", "--processes=2"], "--processes does nothing with --mode=evaluate"),
        (["--mode=prepare", "--distributed"], "--distributed does nothing with --mode=prepare"),
        (["--mode=verify", "--checkpoint=a"], "--checkpoint does nothing with --mode=verify"),
        (["--mode=prepare"], "preparing a dataset writes no workdir: remove --workdir"),
        (["--checkpoint=a"], "to start from it, set config.model.checkpoint"),
        (["--processes=2"], "--coordinator, --processes and --process go together: name all three"),
    ],
)
def test_arguments_of_main_that_do_not_fit_its_mode_are_refused(
    small_training, tmp_path, argv, message
):
    run = tmp_path / "run"
    assert message in cli.error_of("main", *small_training, f"--workdir={run}", *argv)
    assert not run.exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "no config: name one with --config"),
        (["--config=nowhere.py"], "nowhere.py"),
        (["--config=configs/cross.py:omq"], "ValueError: no dataset"),
    ],
)
def test_main_needs_a_config_that_exists(tmp_path, monkeypatch, config, message):
    monkeypatch.chdir(pathlib.Path(__file__).parents[1])
    assert message in cli.error_of("main", *config, f"--workdir={tmp_path}")


def test_main_needs_a_workdir(small_training):
    assert "no --workdir: name a folder" in cli.error_of("main", *small_training)


def test_a_failing_command_exits_with_status_1_and_one_line(small_training, tmp_path):
    """In a process of its own, to see everything that is printed."""
    (tmp_path / "file").touch()
    result = cli.run("main", *small_training, f"--workdir={tmp_path / 'file' / 'run'}")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "cannot be written: Not a directory" in line


def test_main_evaluates_and_verifies_a_run(small_training, workdir, tmp_path):
    result = cli.call(
        "main", *small_training, "--mode=evaluate", f"--checkpoint={workdir}",
        f"--workdir={tmp_path}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "test split, 3 images, percent:" in result.stdout
    figures = (workdir / "test" / "metrics.json").read_text()
    assert (tmp_path / "test" / "metrics.json").read_text() == figures
    result = cli.call("main", "--mode=verify", workdir)
    assert result.returncode == 0, result.stderr
    assert f"{workdir} is verified" in result.stdout


def test_verify_finds_data_that_were_moved(data_dir, workdir_copy, tmp_path):
    """By an override without a config file."""
    config = json.loads((workdir_copy / "config.json").read_text())
    config["dataset"].update(data_dir=str(tmp_path / "gone"), prepare=False)
    (workdir_copy / "config.json").write_text(json.dumps(config))
    assert "is not prepared in" in cli.error_of("verify", workdir_copy)
    result = cli.call("verify", workdir_copy, f"--config.dataset.data_dir={data_dir}")
    assert result.returncode == 0, result.stderr
    assert f"{workdir_copy} is verified" in result.stdout


def test_commands_work_from_a_folder_that_is_no_checkout(small_training, workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    command = [sys.executable, "-m", "eal_icnet_jax", "verify", "run"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "run is verified" in result.stdout
