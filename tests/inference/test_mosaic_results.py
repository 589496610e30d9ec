"""The last step of a mosaic's prediction, which may fail or be killed and is then repeated."""

import errno
import itertools
import os

import numpy as np
import pytest

from eal_icnet_jax.imaging import pyramid
from eal_icnet_jax.system.errors import UserError
from tests.inference.conftest import assert_same_files, read


def test_nothing_is_lost_when_the_disk_fills_or_a_chunk_is_damaged(
    predict_mosaic, predicted, tmp_path, monkeypatch
):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(pyramid, "write_tiff", fail)
        with pytest.raises(UserError, match=r"No space left on device.*goes on where it stopped"):
            predict_mosaic(tmp_path)
    chunk = tmp_path / ".die.partial/die.zarr/0/1/0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"\.die\.partial is damaged .*: remove it and run"):
        predict_mosaic(tmp_path)
    chunk.write_bytes(content)
    predict_mosaic(tmp_path)
    np.testing.assert_array_equal(read(tmp_path / "die.ome.tif"), read(predicted / "die.ome.tif"))


@pytest.mark.parametrize("format", ["tiff", "zarr"])
def test_a_run_stopped_while_writing_results_ends_with_the_same_files(
    predict_mosaic, tmp_path, format
):
    """Stopped with one result in its place and a part of another; then with all in their places."""
    options = {"probabilities": True, "fill_holes": 9, "format": format}
    expected, output = tmp_path / "expected", tmp_path / "out"
    predict_mosaic(expected, **options)
    fill_levels, calls = pyramid.fill_levels, itertools.count()

    def stop_at_the_second(group):
        fill_levels(group)
        if next(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError):
        patch.setattr(pyramid, "fill_levels", stop_at_the_second)
        predict_mosaic(output, **options)
    assert len(list(output.glob("die*"))) == 1
    predict_mosaic(output, **options)
    assert_same_files(expected, output)

    (output / ".die.partial/die.zarr").mkdir(parents=True)
    predict_mosaic(output, **options)
    assert_same_files(expected, output)
