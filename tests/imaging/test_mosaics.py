import numpy as np
import pytest
import tifffile

from eal_icnet_jax.imaging import masks, mosaic_files, mosaics
from eal_icnet_jax.system.errors import UserError
from tests.imaging.sample_images import gradient


def test_a_mask_of_one_bit_is_read_by_parts(tmp_path):
    image = np.random.default_rng(0).random((70, 90)) < 0.4
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="minisblack")
    mosaic = mosaic_files.open_mosaic(tmp_path / "x.tif")
    assert mosaic.dtype == bool
    np.testing.assert_array_equal(masks.MosaicMask(mosaic)[10:60, 5:80], image[10:60, 5:80])


def test_an_image_stored_in_too_large_pieces_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, gradient(), compression="deflate", rowsperstrip=300)
    monkeypatch.setattr(mosaics, "MAX_PIECE_BYTES", 100_000)
    with pytest.raises(UserError, match=r"is stored in pieces of 0 MB, .*: write it in tiles"):
        mosaic_files.open_mosaic(path)
