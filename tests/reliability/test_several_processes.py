"""Data-parallel training over `jax.distributed`, in processes on one machine."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import pytest

from eal_icnet_jax import models
from eal_icnet_jax.system.errors import EXIT_INTERRUPTED
from eal_icnet_jax.training import runs
from eal_icnet_jax.training.trainer import Trainer
from tests import cli, small_config, trainings

BATCH = ("--config.batch_size=4",)


def assert_losses_agree(first, second):
    """Assert that the losses of every epoch are within 1e-5 of each other."""
    epochs = trainings.epochs(first), trainings.epochs(second)
    assert [r["step"] for r in epochs[0]] == [r["step"] for r in epochs[1]]
    for a, b in zip(*epochs, strict=True):
        for key in ("train_loss", "validation_loss"):
            assert a[key] == pytest.approx(b[key], rel=1e-5), (a["step"], key)


@pytest.fixture(scope="module")
def config(data_dir):
    config = small_config.on(data_dir)
    config.batch_size, config.epochs = 4, 2
    return config


@pytest.fixture(scope="module")
def one(config, tmp_path_factory):
    """Two epochs of two steps, in one process."""
    path = tmp_path_factory.mktemp("one")
    runs.train(config, path)
    return path


@contextlib.contextmanager
def two_hosts():
    """Make two network namespaces with a cable between them, for which the test needs root.

    Yields the beginning of a command line that runs a command in each, and a function that pulls
    the cable.
    """

    def ip(*arguments):
        return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0

    names = [f"eal{os.getpid()}{end}" for end in "ab"]
    folders = [pathlib.Path("/etc/netns") / name for name in names]
    try:
        if shutil.which("ip") is None or not all(ip("netns", "add", name) for name in names):
            pytest.skip("hosts can only be made by root, with iproute2")
        ends = ["netns", names[0], "type", "veth", "peer", "cable", "netns", names[1]]
        assert ip("link", "add", "cable", *ends)
        for number, (name, folder) in enumerate(zip(names, folders, strict=True), 1):
            address = f"10.213.77.{number}"
            # Each resolves its host's name to its end of the cable, and sends that to the other.
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(
                f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n"
            )
            assert ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            assert ip("-n", name, "link", "set", "cable", "up")
            assert ip("-n", name, "link", "set", "lo", "up")
        within = [["ip", "netns", "exec", name] for name in names]
        yield within, lambda: ip("-n", names[1], "link", "set", "cable", "down")
    finally:
        for name, folder in zip(names, folders, strict=True):
            ip("netns", "delete", name)
            shutil.rmtree(folder, ignore_errors=True)


def all_end(processes, seconds=300):
    for process in processes:
        assert process.end(seconds) == 0, process.text
    return processes


@pytest.mark.soak
def test_hosts_train_as_one_and_a_lost_host_is_noticed(small_training, one, tmp_path, figures):
    """A host that falls silent does not close its connections."""
    with two_hosts() as (within, pull_the_cable):

        def start(*more):
            return [
                trainings.Process(
                    "main", *small_training, *BATCH, *more, "--coordinator=10.213.77.1:7777",
                    "--processes=2", f"--process={index}", within=host,
                )
                for index, host in enumerate(within)
            ]  # fmt: skip

        all_end(start("--config.epochs=2", f"--workdir={tmp_path / 'complete'}"))
        assert_losses_agree(tmp_path / "complete", one)
        processes = start("--config.epochs=2000", f"--workdir={tmp_path / 'lost'}")
        assert processes[0].wait_for(r"epoch \d+/2000 .* left"), processes[0].text
        pull_the_cable()
        begin, seconds = time.monotonic(), []
        for index, process in enumerate(processes):
            assert process.end(60) == 1, process.text
            seconds.append(round(time.monotonic() - begin, 1))
            assert f"error: process {1 - index} of 2 failed or was lost" in process.text
        figures["seconds_until_each_ended"] = seconds


def test_two_processes_train_as_one(small_training, config, one, tmp_path):
    """They find each other by Slurm's variables. One process goes on with what they wrote."""
    arguments = [*small_training, *BATCH, f"--workdir={tmp_path}", "--config.epochs=1"]
    processes = all_end(trainings.start_slurm_group(2, *arguments))
    assert "test split, 3 images" in processes[0].text
    assert "epoch" not in processes[1].text
    Trainer(config, tmp_path).run()
    assert_losses_agree(tmp_path, one)


def start_from(one, small_training, run) -> list[trainings.Process]:
    """Start two processes that go on with what one process wrote, and wait for an epoch."""
    shutil.copytree(one, run, dirs_exist_ok=True)
    arguments = [*small_training, *BATCH, "--config.epochs=200", f"--workdir={run}"]
    processes = trainings.start_group(2, *arguments)
    assert processes[0].wait_for(r"epoch \d+/200 .* left"), processes[0].text
    assert "resuming from step" in processes[0].text
    return processes


def test_a_signal_to_one_process_stops_both_at_the_same_step(small_training, one, tmp_path):
    processes = start_from(one, small_training, tmp_path)
    processes[1].signal(signal.SIGTERM)
    statuses = [process.end(60) for process in processes]
    assert statuses == [EXIT_INTERRUPTED, EXIT_INTERRUPTED], processes[0].text + processes[1].text
    step = trainings.steps(tmp_path)[-1]
    assert f"interrupted: the checkpoint of step {step} is in {tmp_path}" in processes[0].text
    assert f"interrupted: the checkpoint of step {step} is in {tmp_path}" in processes[1].text


@pytest.mark.soak
def test_a_lost_process_ends_the_training_of_the_other_within_a_minute(
    small_training, one, tmp_path
):
    processes = start_from(one, small_training, tmp_path)
    processes[1].signal(signal.SIGKILL)
    assert [process.end(60) for process in processes] == [1, -signal.SIGKILL], processes[0].text
    message = "error: process 1 of 2 failed or was lost: start all of them again"
    assert message in processes[0].text


def test_an_error_of_one_process_ends_both(small_training, workdir_copy):
    """The first finds the workdir in use by another config; the other reports that it failed."""
    processes = trainings.start_group(2, *small_training, *BATCH, f"--workdir={workdir_copy}")
    assert [process.end(60) for process in processes] == [1, 1]
    assert "holds a run with another config" in processes[0].text
    assert "error: process 0 of 2 failed or was lost" in processes[1].text


@pytest.mark.soak
@pytest.mark.parametrize("model", [name for name in models.MODELS if "hrnet" not in name])
def test_full_networks_train_as_one(model, data_dir, tmp_path, figures):
    """Their sums over the batch are many, and do not all depend on each other."""
    config = pathlib.Path(__file__).parents[2] / "configs" / "synthetic.py"
    arguments = [
        f"--config={config}", f"--config.model.name={model}", "--config.dataset.config=tiny",
        f"--config.dataset.data_dir={data_dir}", "--config.dataset.splits.train=train[:4]", *BATCH,
    ]  # fmt: skip
    result = cli.run("main", *arguments, "--config.epochs=1", f"--workdir={tmp_path / 'one'}")
    assert result.returncode == 0, result.stderr
    more = "--config.epochs=3", f"--workdir={tmp_path / 'two'}"
    all_end(trainings.start_group(2, *arguments, *more), 900)
    one, two = trainings.epochs(tmp_path / "one"), trainings.epochs(tmp_path / "two")
    assert [record["step"] for record in two] == [1, 2, 3]
    difference = abs(two[0]["train_loss"] / one[0]["train_loss"] - 1)
    assert difference < 1e-5
    figures["relative_difference_of_the_first_loss"] = difference


@pytest.mark.soak
def test_a_network_that_exchanges_in_loops_is_refused_on_cpu(data_dir, tmp_path):
    config = pathlib.Path(small_config.__file__)
    processes = trainings.start_group(
        2, f"--config={config}:hrnet_w18", f"--config.dataset.data_dir={data_dir}", *BATCH,
        f"--workdir={tmp_path}",
    )  # fmt: skip
    assert [process.end(300) for process in processes] == [1, 1]
    assert "does not train in several processes on CPU" in processes[0].text


@pytest.mark.soak
def test_four_processes_train_as_one(small_training, one, tmp_path, figures):
    arguments = [*small_training, *BATCH, "--config.epochs=2", f"--workdir={tmp_path}"]
    all_end(trainings.start_group(4, *arguments), 900)
    assert_losses_agree(tmp_path, one)
    pairs = zip(trainings.epochs(tmp_path), trainings.epochs(one), strict=True)
    figures["largest_relative_difference_of_losses"] = max(
        abs(a[key] / b[key] - 1) for a, b in pairs for key in ("train_loss", "validation_loss")
    )


@pytest.mark.soak
def test_a_signal_to_one_process_makes_both_give_up_the_validation(
    small_training, tmp_path, figures
):
    """The validation of 400 images after two steps is done when both go on."""
    validation = f"--config.dataset.splits.validation={'+'.join(['train'] * 50)}"
    arguments = [*small_training, *BATCH, validation, "--config.epochs=1", f"--workdir={tmp_path}"]
    processes = trainings.start_group(2, *arguments)
    assert processes[0].wait_for("step 2/2"), processes[0].text
    processes[1].signal(signal.SIGTERM)
    start = time.monotonic()
    assert [process.end() for process in processes] == [EXIT_INTERRUPTED, EXIT_INTERRUPTED]
    figures["seconds_until_both_ended"] = round(time.monotonic() - start, 1)
    assert "interrupted: the checkpoint of step 2 is in" in processes[0].text
    assert trainings.epochs(tmp_path) == []
    all_end(trainings.start_group(2, *arguments))
    (record,) = trainings.epochs(tmp_path)
    assert record["step"] == 2 and record["train_loss"] > 0


@pytest.mark.soak
def test_a_signal_to_one_process_before_the_first_step_stops_both_after_it(
    small_training, tmp_path
):
    arguments = [*small_training, *BATCH, "--config.epochs=200", f"--workdir={tmp_path}"]
    processes = trainings.start_group(2, *arguments)
    until = time.monotonic() + 300
    while not (tmp_path / "config.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    processes[1].signal(signal.SIGTERM)
    assert [process.end() for process in processes] == [EXIT_INTERRUPTED, EXIT_INTERRUPTED]
    assert "SIGTERM: the next step is the last" in processes[1].text
    (step,) = trainings.steps(tmp_path)
    assert step < 3
    assert f"interrupted: the checkpoint of step {step} is in {tmp_path}" in processes[0].text


@pytest.mark.soak
def test_the_loss_of_any_of_four_processes_ends_the_others(small_training, tmp_path, figures):
    arguments = [*small_training, *BATCH, "--config.epochs=200", f"--workdir={tmp_path}"]
    seconds = []
    for index in range(4):
        processes = trainings.start_group(4, *arguments)
        assert processes[0].wait_for(r"epoch \d+/200 .* left"), processes[0].text
        start = time.monotonic()
        processes[index].signal(signal.SIGKILL)
        statuses = [process.end(60) for process in processes]
        seconds.append(round(time.monotonic() - start, 1))
        assert statuses.pop(index) == -signal.SIGKILL
        assert all(statuses), statuses
    figures["seconds_until_the_others_ended"] = seconds
