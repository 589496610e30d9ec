import numpy as np
import pytest

from eal_icnet_jax.imaging import decoding, png
from eal_icnet_jax.system.errors import UserError


def test_an_image_is_written_completely_or_not_at_all(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    png.write(tmp_path / "a.png", image)
    np.testing.assert_array_equal(decoding.read(tmp_path / "a.png"), image)
    with pytest.raises(UserError, match="cannot be written"):
        png.write(tmp_path / "none" / "a.png", image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
