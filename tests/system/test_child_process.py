"""A child process keeps its state, passes signals on, and reports how it ended."""

import os
import signal
import threading
import time

import pytest

from eal_icnet_jax.system.child_process import ChildDied, ChildProcess
from eal_icnet_jax.system.errors import Interrupted, UserError
from eal_icnet_jax.system.signals import Interruption

calls = []


def count() -> int:
    calls.append(None)
    return len(calls)


def fail(message: str):
    raise UserError(message)


def save_at_signal(path, seconds: float) -> str:
    """Write a file at the first signal, otherwise return after some seconds."""
    with Interruption("saving") as interruption:
        path.write_text("begun")  # not before a signal would be noted
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
            if interruption.requested:
                path.write_text("saved")
                raise Interrupted("run it again")
    return "done"


def sleep_forever(path):
    path.write_text("begun")
    time.sleep(600)


def signal_when_begun(path, number: int):
    """Send this process a signal once a file exists."""

    def wait():
        while not path.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


def test_state_is_kept_between_calls_and_errors_are_raised():
    with ChildProcess() as child:
        assert child.call(count) == 1
        with pytest.raises(UserError, match="no such thing"):
            child.call(fail, "no such thing")
        assert child.call(count) == 2
        assert child.call(os.getpid) != os.getpid()
    assert not calls


def test_its_variables_and_its_silence_are_its_own(capfd):
    with ChildProcess({"OF_A_CHILD": "set"}, silent=True) as child:
        assert child.call(os.getenv, "OF_A_CHILD") == "set"
        child.call(print, "noise")
    with ChildProcess() as child:
        child.call(print, "heard")
    assert "OF_A_CHILD" not in os.environ
    assert capfd.readouterr().out == "heard\n"


def test_a_child_that_dies_is_reported():
    with ChildProcess() as child, pytest.raises(ChildDied, match="was killed, perhaps because"):
        child.call(os._exit, 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_child_save(tmp_path, number):
    before = signal.getsignal(number)
    path = tmp_path / "state"
    with ChildProcess() as child:
        signal_when_begun(path, number)
        with pytest.raises(Interrupted, match="run it again"):
            child.call_interruptibly(save_at_signal, path, 60)
        assert path.read_text() == "saved"
        assert child.call_interruptibly(save_at_signal, path, 0) == "done"
    assert signal.getsignal(number) == before


def test_a_signal_ends_a_child_that_does_not_handle_it(tmp_path):
    with ChildProcess() as child:
        signal_when_begun(tmp_path / "begun", signal.SIGTERM)
        with pytest.raises(Interrupted):
            child.call_interruptibly(sleep_forever, tmp_path / "begun")


def test_ctrl_c_ends_a_call_and_its_child(tmp_path, heeded_ctrl_c):
    start = time.monotonic()
    with ChildProcess() as child:
        signal_when_begun(tmp_path / "begun", signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            child.call(sleep_forever, tmp_path / "begun")
    assert time.monotonic() - start < 60
