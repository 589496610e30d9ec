"""Files and folders appear completely or not at all."""

import pytest

from eal_icnet_jax.system import files
from eal_icnet_jax.system.errors import UserError


def test_a_file_that_is_not_written_to_its_end_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    files.write_atomically(path, "old")
    with pytest.raises(KeyError), files.atomic_file(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_filled_leaves_nothing(tmp_path):
    path = tmp_path / "folder"
    with pytest.raises(KeyError), files.atomic_folder(path) as partial:
        (partial / "file").touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_anew_after_a_killed_process_and_never_replaced(tmp_path):
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "old").touch()
    with files.atomic_folder(tmp_path / "folder") as partial:
        (partial / "new").touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    with (
        pytest.raises(UserError, match="folder exists: name a new folder"),
        files.atomic_folder(tmp_path / "folder"),
    ):
        pass


def test_a_path_that_cannot_be_written_is_reported(tmp_path):
    message = "file cannot be written: No such file or directory"
    with pytest.raises(UserError, match=message):
        files.write_atomically(tmp_path / "none" / "file", "text")


def test_a_lock_is_held_once(tmp_path):
    held = files.lock(tmp_path / ".lock", "in use")
    with pytest.raises(UserError, match="in use"):
        files.lock(tmp_path / ".lock", "in use")
    held.release()
    files.lock(tmp_path / ".lock", "in use").release()
