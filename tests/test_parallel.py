"""Work on all cores gives what a plain loop gives, in its order."""

import operator
import os
import signal

import pytest

from eal_icnet_jax import parallel
from eal_icnet_jax.errors import UserError


def test_threads_keep_the_order():
    assert list(parallel.in_threads(lambda x: x * x, range(50))) == [x * x for x in range(50)]


def test_threads_stay_a_few_items_ahead():
    taken = []
    items = (taken.append(k) or k for k in range(1000))
    results = parallel.in_threads(lambda x: x, items)
    assert next(results) == 0
    assert len(taken) <= parallel.cores() + 1
    results.close()


def test_an_error_in_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(parallel.in_threads(lambda x: 1 / x, [2, 1, 0, 1]))


def test_processes_keep_the_order():
    assert list(parallel.in_processes(operator.neg, 9)) == [-x for x in range(9)]


def killed_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_is_killed_is_told():
    """As by a system that is out of memory."""
    with pytest.raises(UserError, match=r"one of the \d+ processes of this command was killed"):
        list(parallel.in_processes(killed_at_three, 9))
