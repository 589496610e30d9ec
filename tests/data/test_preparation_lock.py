import concurrent.futures
import threading
import time

import pytest

from eal_icnet_jax.data.preparation_lock import preparation_lock


def test_one_holder_at_a_time_although_the_file_and_its_folders_are_removed(tmp_path):
    """Each thread opens the file itself, as processes do."""
    folder = tmp_path / "data" / "omv" / "1.0.0"
    inside = threading.Lock()

    def hold(_):
        for _ in range(6):
            with preparation_lock(folder):
                assert inside.acquire(blocking=False), "two threads hold the lock"
                time.sleep(0.001)
                inside.release()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(8)))
    assert not list(tmp_path.rglob("*.lock"))


def test_an_error_leaves_nothing_and_existing_folders_stay(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(KeyError), preparation_lock(tmp_path / "data" / "omv" / "1.0.0"):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_a_file_that_a_killed_process_left_is_taken_over(tmp_path):
    (tmp_path / ".1.0.0.lock").touch()
    with preparation_lock(tmp_path / "1.0.0"):
        (tmp_path / "1.0.0").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["1.0.0"]
