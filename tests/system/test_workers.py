"""Work on all cores gives the results of a plain loop, in its order."""

import concurrent.futures
import operator
import os
import signal
import time

import pytest

from eal_icnet_jax.system import workers
from eal_icnet_jax.system.errors import UserError


def test_threads_keep_the_order():
    assert list(workers.map_in_threads(lambda x: x * x, range(50))) == [x * x for x in range(50)]


def test_threads_stay_a_few_items_ahead():
    taken = []
    items = (taken.append(k) or k for k in range(1000))
    results = workers.map_in_threads(lambda x: x, items)
    assert next(results) == 0
    assert len(taken) <= workers.available_cores() + 1
    results.close()


def test_an_error_in_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(workers.map_in_threads(lambda x: 1 / x, [2, 1, 0, 1]))


def test_processes_keep_the_order():
    assert list(workers.map_in_processes(operator.neg, range(9))) == [-x for x in range(9)]


def killed_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_process_is_reported():
    """The system kills one when memory runs out."""
    with pytest.raises(UserError, match=r"one of the \d+ processes of this command was killed"):
        list(workers.map_in_processes(killed_at_three, range(9)))


def slow(number: int) -> int:
    time.sleep(0.1)
    return number


def test_a_signal_while_the_processes_start_does_not_wait_for_all_calls(monkeypatch):
    start = concurrent.futures.ProcessPoolExecutor.map

    def interrupted(*arguments, **options):
        start(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "map", interrupted)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(workers.map_in_processes(slow, range(600 * workers.available_cores())))
    assert time.monotonic() - begin < 20
