"""PyTorch state_dicts for tests."""

import numpy as np

from tests.golden import recipe


def counted_state_dict(name: str) -> dict[str, np.ndarray]:
    """Return the golden recipe's weights of a network, with counters that have counted."""
    return {
        key: np.asarray(1234567, np.int64) if key.endswith("num_batches_tracked") else value
        for key, value in recipe.state_dict(name).items()
    }


def assert_equal(actual, expected):
    """Assert that two state_dicts are equal, dtypes included."""
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype, key
        np.testing.assert_array_equal(actual[key], value, err_msg=key)
