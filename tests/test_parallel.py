"""Work on all cores gives what a plain loop gives, in its order."""

import operator

import pytest

from eal_icnet_jax import parallel


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
