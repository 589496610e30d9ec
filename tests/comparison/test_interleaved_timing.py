"""Workers run alternately, and report what goes wrong."""

import os

import numpy as np
import pytest

from eal_icnet_jax.comparison import interleaved_timing


def counting(path, name):
    def run():
        with path.open("a") as file:
            file.write(name)
        print("noise")
        return {"variable": os.environ.get("OF_A_WORKER")}

    return run


def failing(when: str):
    if when == "first":
        raise ValueError("no such\nthing")
    if when == "dies":
        os._exit(3)
    calls = []

    def run():
        calls.append(None)
        if len(calls) > 1:
            raise OSError("gone")

    return run


def test_workers_run_alternately(tmp_path, capfd):
    path = tmp_path / "log"
    a = interleaved_timing.Worker(counting, path, "a", environment={"OF_A_WORKER": "set"})
    b = interleaved_timing.Worker(counting, path, "b")
    interleaved_timing.interleave([a, b], 3)
    assert (
        path.read_text() == "ab" + "ab" + "ababab"
    )  # the first runs, those that are not kept, the rounds
    assert len(a.seconds) == len(b.seconds) == 3
    assert a.last["variable"] == "set" and b.last["variable"] is None
    assert "OF_A_WORKER" not in os.environ
    assert 0 < a.first["seconds"] < a.first["age"]
    assert a.last["peak"] > 1e6
    low, middle, high = interleaved_timing.ratio(a, a)
    assert low == middle == high == 1
    a.close()
    b.close()
    assert capfd.readouterr().out == ""


def test_the_memory_of_a_worker_is_its_own(tmp_path):
    held_here = np.ones(2**26)
    with interleaved_timing.Worker(counting, tmp_path / "log", "a") as worker:
        assert 1e6 < worker.first["peak"] < held_here.nbytes


@pytest.mark.parametrize(
    ("when", "message"), [("first", "^ValueError: no such thing$"), ("dies", "was killed")]
)
def test_a_worker_that_cannot_start_is_reported_in_one_line(when, message):
    with pytest.raises(interleaved_timing.WorkerError, match=message):
        interleaved_timing.Worker(failing, when)


def test_a_later_run_that_fails_is_reported():
    error = interleaved_timing.WorkerError
    with interleaved_timing.Worker(failing, "later") as worker, pytest.raises(error, match="gone"):
        worker.run()
