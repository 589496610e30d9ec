"""Opens and shorts of nets that go over several layers."""

import numpy as np
import pytest

from eal_icnet_jax.evaluation.electrical import ElectricalDifferences
from eal_icnet_jax.evaluation.metrics import (
    electrically_significant_differences,
    net_differences,
)
from eal_icnet_jax.evaluation.stack_differences import compare_stacks

SHAPE = 120, 160


def stack():
    """Two wires on each of two metals, crossing, and a via at two of the four crossings."""
    metal1, via1, metal2 = np.zeros((3, *SHAPE), bool)
    metal1[20:30, 10:150] = metal1[80:90, 10:150] = True
    metal2[10:110, 40:50] = metal2[10:110, 100:110] = True
    via1[22:28, 42:48] = via1[82:88, 102:108] = True
    return [metal1, via1, metal2]


def places(found):
    return sorted((part.layer, part.fault.kind) for part in found.faults)


def test_equal_stacks_have_no_differences():
    found = net_differences(stack(), stack())
    assert found.counts == ElectricalDifferences(nets=2) and not found.faults


@pytest.mark.parametrize("block", [16, 50, 500])
def test_a_missing_via_opens_a_net_and_an_added_one_shorts_two(block):
    predicted = stack()
    predicted[1][22:28, 42:48] = False
    found = compare_stacks(stack(), predicted, 35, None, block)
    assert found.counts == ElectricalDifferences(opens=1, nets=2)
    (place,) = found.faults
    assert place.layer == 1
    assert (place.fault.kind, place.fault.left, place.fault.top, place.fault.right,
            place.fault.bottom) == ("opens", 42, 22, 47, 27)  # fmt: skip
    predicted = stack()
    predicted[1][22:28, 102:108] = True
    found = compare_stacks(stack(), predicted, 35, None, block)
    assert found.counts == ElectricalDifferences(shorts=1, nets=2)
    assert places(found) == [(1, "shorts")]
    assert found.faults[0].fault.left == 102


def test_metal_that_is_cut_or_joined_counts_by_the_nets_of_the_whole_stack():
    predicted = stack()
    predicted[0][20:30, 70:74] = False
    found = net_differences(stack(), predicted)
    assert found.counts == ElectricalDifferences(opens=1, nets=2)
    assert places(found) == [(0, "opens")]
    predicted = stack()
    predicted[2][60:66, 50:100] = True
    found = net_differences(stack(), predicted)
    assert found.counts == ElectricalDifferences(shorts=1, nets=2)
    assert places(found) == [(2, "shorts")]


def test_a_second_way_keeps_a_net_whole():
    """A cut beside a detour over the other metal opens nothing."""
    label = stack()
    label[1][22:28, 102:108] = label[1][82:88, 42:48] = True  # a ring of four vias
    predicted = [mask.copy() for mask in label]
    predicted[0][20:30, 70:74] = False
    found = net_differences(label, predicted)
    assert found.counts == ElectricalDifferences(nets=1)


def test_a_via_that_moved_a_little_is_the_same_via():
    predicted = stack()
    predicted[1] = np.roll(predicted[1], 2, axis=1)
    found = net_differences(stack(), predicted)
    assert found.counts == ElectricalDifferences(nets=2) and not found.faults


def test_missed_and_invented_nets_are_counted():
    label, predicted = stack(), stack()
    label[0][50:60, 10:150] = True
    found = net_differences(label, predicted)
    assert found.counts == ElectricalDifferences(false_negatives=1, nets=3)
    assert net_differences(predicted, label).counts == ElectricalDifferences(
        false_positives=1, nets=2
    )


def test_one_layer_has_the_differences_of_its_mask():
    rng = np.random.default_rng(0)
    label = np.zeros(SHAPE, bool)
    for top in range(4, 112, 12):
        label[top : top + 6, 5:155] = True
    predicted = label & ~np.repeat(rng.random((SHAPE[0] // 12, SHAPE[1])) < 0.02, 12, 0)
    predicted |= np.repeat(rng.random((SHAPE[0] // 12, SHAPE[1])) < 0.02, 12, 0)
    expected = electrically_significant_differences(label, predicted)
    assert expected.opens and expected.shorts
    found = net_differences([label], [predicted])
    assert found.counts == expected


@pytest.mark.parametrize("change", [slice(0, 2), slice(0, 1)])
def test_stacks_that_do_not_match_are_refused(change):
    with pytest.raises(ValueError, match="must have the same layers of one size"):
        net_differences(stack(), stack()[change])
    with pytest.raises(ValueError, match="must have the same layers of one size"):
        net_differences(stack(), [mask[:50] for mask in stack()])
