"""Regions and nets of stacks of masks, against SciPy's labelling in three dimensions."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from eal_icnet_jax.imaging.stack_regions import find_nets


@pytest.mark.parametrize("seed", range(5))
def test_nets_are_those_of_a_labelled_volume(seed):
    rng = np.random.default_rng(seed)
    masks = [rng.random((70, 90)) < density for density in (0.45, 0.03, 0.45, 0.03, 0.4)]
    found = find_nets(masks, block=17)
    touching = np.zeros((3, 3, 3))
    touching[1], touching[:, 1, 1] = 1, 1
    volume, count = ndimage.label(np.stack(masks), touching)
    columns, rows = found.points.T
    expected = volume[found.layer, rows, columns]
    assert len(set(zip(expected, found.nets, strict=True))) == count == found.nets.max() + 1
    start = 0
    for layer, mask in enumerate(masks):
        regions, number = ndimage.label(mask, np.ones((3, 3)))
        mine = found.layer == layer
        assert mine.sum() == number
        labels = regions[rows[mine], columns[mine]]
        assert sorted(labels) == list(range(1, number + 1))
        np.testing.assert_array_equal(found.pixels[mine], np.bincount(regions.ravel())[labels])
        boxes = ndimage.find_objects(regions)
        for label, box in zip(labels, found.boxes[mine], strict=True):
            y, x = boxes[label - 1]
            assert tuple(box) == (x.start, y.start, x.stop - 1, y.stop - 1)
        start += number
    assert start == len(found.layer)


def test_the_size_of_the_blocks_changes_nothing():
    rng = np.random.default_rng(9)
    masks = [rng.random((50, 64)) < 0.5 for _ in range(3)]
    whole = find_nets(masks, block=1000)
    for block in (1, 7, 32, 64):
        parts = find_nets(masks, block=block)
        for field in dataclasses.fields(whole):
            np.testing.assert_array_equal(getattr(parts, field.name), getattr(whole, field.name))


def test_empty_masks_have_no_regions():
    found = find_nets([np.zeros((40, 30), bool)] * 3)
    assert found.layer.shape == (0,) and found.boxes.shape == (0, 4)
