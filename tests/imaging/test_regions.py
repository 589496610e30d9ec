import cv2
import numpy as np

from eal_icnet_jax.imaging.regions import connected_regions


def test_diagonal_neighbours_are_one_region():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1]], bool)
    regions, statistics = connected_regions(mask)
    assert regions[0, 0] == regions[1, 1] != regions[1, 3]
    np.testing.assert_array_equal(statistics[:, cv2.CC_STAT_AREA], [5, 2, 1])
