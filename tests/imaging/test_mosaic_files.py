import pathlib

import numpy as np
import pytest
import zarr

from eal_icnet_jax.imaging import image_folders, mosaic_files, png
from eal_icnet_jax.system.errors import UserError
from tests.imaging.sample_images import check_parts, gradient


@pytest.mark.parametrize("channels", [(), (3,)])
def test_an_image_that_is_decoded_at_once_is_a_mosaic_too(tmp_path, channels):
    image = gradient(channels=channels)
    png.write(tmp_path / "x.png", image)
    check_parts(mosaic_files.open_mosaic(tmp_path / "x.png"), image)


def test_the_images_and_zarrs_of_a_folder_are_found(tmp_path):
    zarr.create_array(str(tmp_path / "b.zarr"), data=gradient(), zarr_format=2)
    assert mosaic_files.find_mosaics(tmp_path) == [tmp_path / "b.zarr"]
    png.write(tmp_path / "c.png", gradient())
    (tmp_path / "no.zarr").mkdir()
    assert mosaic_files.find_mosaics(tmp_path) == [tmp_path / "b.zarr", tmp_path / "c.png"]
    png.write(tmp_path / "c.tif", gradient())
    with pytest.raises(UserError, match=r"differ only in their endings"):
        mosaic_files.find_mosaics(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file that ends in"):
        mosaic_files.find_mosaics(tmp_path / "empty")


@pytest.mark.parametrize("ending", [".png", ".tif", ".OME.TIFF", ".ome.zarr", ".zarr"])
def test_a_name_loses_all_its_endings(ending):
    assert image_folders.stem_of(pathlib.Path(f"die.1{ending}")) == "die.1"


def test_a_file_that_does_not_exist_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"none\.tif cannot be read: No such file"):
        mosaic_files.open_mosaic(tmp_path / "none.tif")


def test_the_whole_image_can_be_read_without_bounds(tmp_path):
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    png.write(tmp_path / "x.png", image)
    mosaic = mosaic_files.open_mosaic(tmp_path / "x.png")
    np.testing.assert_array_equal(mosaic[slice(None), slice(None)], image)
