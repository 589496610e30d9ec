import itertools

import cv2
import numpy as np
import pytest
import tifffile

from eal_icnet_jax.imaging import mosaic_files, pyramid
from tests.imaging.sample_images import gradient


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_pyramid_is_written_and_read_back(tmp_path, channels):
    image = gradient(1300, 701, channels)
    group = pyramid.create_pyramid(tmp_path / "x.zarr", "x", image.shape, image.dtype, (0.02, 0.03))
    group["0"][:] = image
    pyramid.fill_levels(group)
    pyramid.write_tiff(group, tmp_path / "x.ome.tif", (0.02, 0.03), {"made": "here"})
    mosaic = mosaic_files.open_mosaic(tmp_path / "x.ome.tif")
    assert mosaic.pixel_size == pytest.approx((0.02, 0.03))
    np.testing.assert_array_equal(mosaic[0:1300, 0:701], image)
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as file:
        levels = [level.asarray() for level in file.series[0].levels]
        assert file.is_bigtiff and file.is_ome and "made" in file.ome_metadata
        assert file.pages[0].tile == (512, 512)
        assert file.pages[0].resolution == pytest.approx((1e4 / 0.03, 1e4 / 0.02), rel=1e-4)
    assert [level.shape[:2] for level in levels] == [(1300, 701), (650, 351), (325, 176)]
    for finer, coarser in itertools.pairwise(levels):
        even = finer[:, : finer.shape[1] // 2 * 2].astype(float)
        means = even.reshape(len(finer) // 2, 2, even.shape[1] // 2, 2, *channels).mean((1, 3))
        assert np.abs(coarser[:, : means.shape[1]] - means).max() <= 0.51
    if not channels:
        mosaic = mosaic_files.open_mosaic(tmp_path / "x.zarr")
        assert mosaic.pixel_size == (0.02, 0.03)
        np.testing.assert_array_equal(mosaic[0:1300, 0:701], image)
        read = cv2.imread(str(tmp_path / "x.ome.tif"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read, image)


def test_equal_images_give_equal_tiffs(tmp_path):
    image = gradient()
    files = []
    for name in ("a", "b"):
        group = pyramid.create_pyramid(tmp_path / name, "x", image.shape, image.dtype, None)
        group["0"][:] = image
        path = tmp_path / f"{name}_folder" / "x.ome.tif"
        path.parent.mkdir()
        pyramid.write_tiff(group, path, None, {"seed": 0})
        files.append(path.read_bytes())
    assert files[0] == files[1]
