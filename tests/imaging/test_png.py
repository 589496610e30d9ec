import numpy as np
import pytest

from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.system.errors import UserError


def test_an_image_is_written_completely_or_not_at_all(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    png.write(tmp_path / "a.png", image)
    read = mosaic_files.open_mosaic(tmp_path / "a.png")
    np.testing.assert_array_equal(read[0:9, 0:7], image)
    assert read.pixel_size is None
    with pytest.raises(UserError, match="cannot be written"):
        png.write(tmp_path / "none" / "a.png", image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("size", [(0.02, 0.02), (3.3, 1.7), (0.0005, 0.0005)])
def test_the_pixel_size_is_written(tmp_path, size):
    png.write(tmp_path / "a.png", np.zeros((9, 7), np.uint8), size)
    assert mosaic_files.open_mosaic(tmp_path / "a.png").pixel_size == pytest.approx(size, rel=1e-5)


def test_a_pixel_size_that_a_png_cannot_state_is_reported(tmp_path, capsys):
    png.write(tmp_path / "a.png", np.eye(8, dtype=np.uint8), (4e-4, 4e-4))
    assert "a.png cannot state pixels of 0.0004x0.0004 micrometres" in capsys.readouterr().err
