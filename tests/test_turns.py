"""Workers run when told to, in turn, and tell what goes wrong."""

import os

import pytest

from eal_icnet_jax import turns


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


def test_workers_take_turns(tmp_path, capfd):
    path = tmp_path / "log"
    a = turns.Worker(counting, path, "a", environment={"OF_A_WORKER": "set"})
    b = turns.Worker(counting, path, "b")
    turns.take_turns([a, b], 3)
    assert path.read_text() == "ab" + "ab" + "ababab"  # the first runs, those not kept, the rounds
    assert len(a.seconds) == len(b.seconds) == 3
    assert a.last["variable"] == "set" and b.last["variable"] is None
    assert "OF_A_WORKER" not in os.environ
    assert 0 < a.first["seconds"] < a.first["age"]
    assert a.last["peak"] > 1e6
    low, middle, high = turns.ratio(a, a)
    assert low == middle == high == 1
    a.end()
    b.end()
    assert capfd.readouterr().out == ""


def test_what_goes_wrong_is_told():
    assert turns.Worker(failing, "first").first == {"error": "ValueError: no such thing"}
    assert turns.Worker(failing, "dies").first == {"error": "the process died"}
    worker = turns.Worker(failing, "later")
    with pytest.raises(RuntimeError, match="OSError: gone"):
        worker.run()
    worker.end()
