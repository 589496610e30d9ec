"""The folder of a prediction in progress: when it is taken up again, and when it is refused."""

import collections

import filelock
import pytest

from eal_icnet_jax.inference import mosaic_work_folder
from eal_icnet_jax.system.errors import UserError


def test_work_with_other_settings_is_not_taken_up(begin_mosaic, predict_mosaic, tmp_path):
    begin_mosaic(tmp_path, pieces=1)
    with pytest.raises(UserError, match=r"threshold 0\.\d+ instead of 0.4: repeat the command"):
        predict_mosaic(tmp_path, threshold=0.4)


def test_a_second_command_on_the_same_mosaic_is_refused(begin_mosaic, predict_mosaic, tmp_path):
    work = begin_mosaic(tmp_path, pieces=1)
    with filelock.FileLock(work / "lock"), pytest.raises(UserError, match="is in use"):
        predict_mosaic(tmp_path)


def test_too_little_space_is_reported_before_anything_is_written(
    predict_mosaic, tmp_path, monkeypatch
):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(
        mosaic_work_folder.shutil, "disk_usage", lambda path: usage(2**30, 2**30, 9)
    )
    with pytest.raises(UserError, match=r"has 0 MB free, and die may take 1 MB: make room"):
        predict_mosaic(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
