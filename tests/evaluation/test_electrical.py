"""Electrically significant differences: the published counts, and each kind separately."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import shapely

from eal_icnet_jax.evaluation import electrical, metrics
from eal_icnet_jax.evaluation.electrical import ElectricalDifferences
from eal_icnet_jax.evaluation.metrics import MaskComparison
from eal_icnet_jax.vector import outlines, svg_labels
from tests.golden import recipe

LABELS = pathlib.Path(__file__).parents[1] / "hy5syn_excerpt" / "labels"
EXPECTED = {known["svg"]: known for known in json.loads((recipe.HERE / "esd.json").read_text())}


@pytest.fixture(scope="module", params=[path.name for path in LABELS.glob("*.svg")])
def tile(request):
    """A HY5SYN tile's label and mask, a damaged mask as prediction, and the published counts."""
    expected = EXPECTED[request.param]
    label = svg_labels.parse((LABELS / request.param).read_bytes(), request.param)
    mask = label.rasterize()["label"]
    prediction = mask.copy()
    rng = np.random.default_rng([0, 3, sorted(EXPECTED).index(request.param)])
    for k in range(120):
        y, x = rng.integers(0, 3496), rng.integers(0, 4056)
        prediction[y : y + 40, x : x + 40] = k % 2
    # Exact with OpenCV 5; earlier releases fill outlines slightly differently.
    assert np.count_nonzero(prediction) == pytest.approx(expected["foreground"], rel=2e-4)
    names = ("opens", "shorts", "false_positives", "false_negatives")
    counts = ElectricalDifferences(*(expected[key] for key in names), nets=expected["tracks"])
    return label, mask, prediction, counts


def test_masks_give_the_published_counts(tile):
    _, mask, prediction, expected = tile
    assert metrics.electrically_significant_differences(mask, prediction) == expected


def test_polygons_give_the_published_counts(tile):
    """Many of the label's tracks overlap."""
    label, mask, prediction, expected = tile
    tracks = [shapely.Polygon(track) for track in label.tracks if len(track) > 2]
    assert len(tracks) > expected.nets
    wires = [
        shapely.transform(p, lambda xy: xy - 0.5) for p in outlines.trace(prediction).midpoints()
    ]
    found = metrics.electrically_significant_differences(tracks, wires, size=mask.shape)
    assert found == expected


def test_correcting_each_fault_leaves_no_difference(tile):
    _, mask, prediction, expected = tile
    faults = electrical.find_faults(*MaskComparison(mask, prediction).electrical_regions())
    assert len(faults) >= expected.opens + expected.shorts
    corrected = prediction.copy()
    for fault in faults:
        place = np.s_[fault.top : fault.bottom + 1, fault.left : fault.right + 1]
        corrected[place] = mask[place]
    found = metrics.electrically_significant_differences(mask, corrected)
    assert found == ElectricalDifferences(nets=expected.nets)


def draw_wires(*rows):
    """Return a mask with a wire 4 pixels high for each (row, left, right)."""
    mask = np.zeros((60, 60), bool)
    for row, left, right in rows:
        mask[row : row + 4, left:right] = True
    return mask


LABEL = draw_wires((10, 5, 55), (20, 5, 55), (30, 5, 55))


@pytest.mark.parametrize(
    "prediction, expected",
    [
        (LABEL, {}),
        (
            draw_wires((10, 5, 20), (10, 25, 40), (10, 45, 55), (20, 5, 55), (30, 5, 55)),
            {"opens": 2},
        ),
        (LABEL | np.pad(np.ones((24, 2), bool), ((10, 26), (30, 28))), {"shorts": 2}),
        (LABEL | draw_wires((45, 20, 40)), {"false_positives": 1}),
        (draw_wires((10, 5, 55), (30, 5, 55)), {"false_negatives": 1}),
        (np.zeros_like(LABEL), {"false_negatives": 3}),
        (LABEL | draw_wires((45, 20, 23)), {}),  # 12 pixels are ignored as noise
    ],
)
def test_each_kind_is_counted_and_found(prediction, expected):
    count = metrics.electrically_significant_differences
    differences = ElectricalDifferences(**expected, nets=3)
    assert count(LABEL, prediction, border=0) == differences
    polygons = (list(outlines.trace(mask).midpoints()) for mask in (LABEL, prediction))
    assert count(*polygons) == differences
    faults = electrical.find_faults(*MaskComparison(LABEL, prediction).electrical_regions(border=0))
    kinds = [fault.kind for fault in faults]
    assert {kind: kinds.count(kind) for kind in kinds} == expected


def test_regions_entirely_within_the_border_are_ignored():
    found = metrics.electrically_significant_differences(LABEL, LABEL & False, border=12)
    assert found == ElectricalDifferences(false_negatives=3, nets=3)
    found = metrics.electrically_significant_differences(LABEL, LABEL & False, border=13)
    assert found == ElectricalDifferences(false_negatives=2, nets=2)
    found = metrics.electrically_significant_differences(
        list(outlines.trace(LABEL).midpoints()), [], size=LABEL.shape, border=15
    )
    assert found == ElectricalDifferences(false_negatives=2, nets=2)


def test_diagonal_neighbours_are_connected():
    label = np.kron(np.eye(2, dtype=bool), np.ones((10, 10), bool))
    polygons = list(outlines.trace(label).midpoints())
    for shapes in ((label, label), (polygons, polygons)):
        found = metrics.electrically_significant_differences(*shapes, border=0)
        assert found == ElectricalDifferences(nets=1)


def test_differences_can_be_added():
    differences = ElectricalDifferences(1, 2, 3, 4, 5)
    assert dataclasses.astuple(differences + differences) == (2, 4, 6, 8, 10)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="of one size"):
        metrics.electrically_significant_differences(LABEL, LABEL[1:])


def two_wires():
    """Two wires, and a prediction that joins them in one place and breaks one in another."""
    label = np.zeros((96, 96), bool)
    label[20:30, 4:92] = label[50:60, 4:92] = True
    prediction = label.copy()
    prediction[30:50, 40:48] = True
    prediction[20:30, 70:76] = False
    return label, prediction


def test_faults_among_ignored_pixels_do_not_count():
    label, prediction = two_wires()
    faults = metrics.electrically_significant_differences(label, prediction)
    assert (faults.opens, faults.shorts) == (1, 1)
    valid = np.ones(label.shape, bool)
    valid[34:46, 36:52] = False  # the short
    faults = metrics.electrically_significant_differences(label, prediction, valid)
    assert (faults.opens, faults.shorts) == (1, 0)
    valid[16:34, 66:80] = False  # the open, and with it the wire on both sides
    faults = metrics.electrically_significant_differences(label, prediction, valid)
    assert (faults.opens, faults.shorts, faults.false_negatives) == (0, 0, 0)
    same = metrics.electrically_significant_differences(label, prediction ^ ~valid, valid)
    assert same == faults


def test_a_right_prediction_has_no_fault_whatever_is_ignored():
    label, _ = two_wires()
    rng = np.random.default_rng(0)
    for _ in range(30):
        valid = np.ones(label.shape, bool)
        for _ in range(4):
            top, left = rng.integers(0, 80, 2)
            height, width = rng.integers(4, 40, 2)
            valid[top : top + height, left : left + width] = False
        faults = metrics.electrically_significant_differences(label, label, valid)
        assert faults == electrical.ElectricalDifferences(nets=faults.nets)
