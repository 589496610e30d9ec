"""Examples of two folders, as `eal-icnet evaluate --images` reads them."""

import cv2
import numpy as np
import pytest

from eal_icnet_jax.data.decoded_examples import folder_examples


@pytest.fixture
def pair(tmp_path):
    """An image of 12 bits whose largest level is 1000, and its label."""
    image = np.zeros((40, 40), np.uint16)
    image[10:20] = 1000
    paths = tmp_path / "image.png", tmp_path / "label.png"
    for path, pixels in zip(paths, (image, 255 * (image > 0).astype(np.uint8)), strict=True):
        cv2.imwrite(str(path), pixels)
    return paths


@pytest.mark.parametrize(("white", "taken"), [(None, 1023), (4095, 4095), (65535, 65535)])
def test_the_level_of_white_is_the_one_that_is_named(pair, white, taken):
    (example,) = folder_examples([pair], 1, white=white)
    assert example["image"].max() == pytest.approx(1000 / taken, abs=2e-3)
    assert example["label"].sum() == 400


def test_images_are_stretched_as_the_network_was_trained(pair):
    (example,) = folder_examples([pair], 1, white=4095, percentiles=(0.5, 99.5))
    assert example["image"].min() == 0 and example["image"].max() == 1
