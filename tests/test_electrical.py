"""Electrically significant differences: the published counts, and each kind by itself."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import shapely
from eal_icnet_jax.datasets.hy5syn import svg_labels

from eal_icnet_jax import electrical, layout, metrics, pictures
from eal_icnet_jax.electrical import ElectricalDifferences
from tests.golden import recipe

LABELS = pathlib.Path(__file__).parent / "hy5syn_excerpt" / "labels"
EXPECTED = {known["svg"]: known for known in json.loads((recipe.HERE / "esd.json").read_text())}


@pytest.fixture(scope="module", params=[path.name for path in LABELS.glob("*.svg")])
def tile(request):
    """A HY5SYN tile's label and mask, the prediction that golden figures are of, and these."""
    expected = EXPECTED[request.param]
    label = svg_labels.parse((LABELS / request.param).read_bytes(), request.param)
    mask = label.rasterize()["label"]
    prediction = mask.copy()
    rng = np.random.default_rng([0, 3, sorted(EXPECTED).index(request.param)])
    for k in range(120):
        y, x = rng.integers(0, 3496), rng.integers(0, 4056)
        prediction[y : y + 40, x : x + 40] = k % 2
    # Exact with OpenCV 5; those before fill outlines a little otherwise.
    assert np.count_nonzero(prediction) == pytest.approx(expected["foreground"], rel=2e-4)
    names = ("opens", "shorts", "false_positives", "false_negatives")
    counts = ElectricalDifferences(*(expected[key] for key in names), nets=expected["tracks"])
    return label, mask, prediction, counts


def test_masks_give_the_published_counts(tile):
    _, mask, prediction, expected = tile
    assert metrics.electrically_significant_differences(mask, prediction) == expected


def test_polygons_give_the_published_counts(tile):
    """The label's own tracks, many of which overlap, and outlines in their coordinates."""
    label, mask, prediction, expected = tile
    tracks = [shapely.Polygon(track) for track in label.tracks if len(track) > 2]
    assert len(tracks) > expected.nets
    wires = [shapely.transform(p, lambda xy: xy - 0.5) for p in layout.outlines(prediction)]
    found = metrics.electrically_significant_differences(tracks, wires, size=mask.shape)
    assert found == expected


def test_mending_each_marked_place_leaves_nothing_wrong(tile):
    _, mask, prediction, expected = tile
    found = electrical.faults(*metrics.electrical_regions(mask, prediction))
    assert len(found) >= expected.opens + expected.shorts
    mended = prediction.copy()
    for fault in found:
        place = np.s_[fault.top : fault.bottom + 1, fault.left : fault.right + 1]
        mended[place] = mask[place]
    left = metrics.electrically_significant_differences(mask, mended)
    assert left == ElectricalDifferences(nets=expected.nets)


def wires(*rows):
    """A mask with a line of 4 pixels' height at each row, of the columns given."""
    mask = np.zeros((60, 60), bool)
    for row, left, right in rows:
        mask[row : row + 4, left:right] = True
    return mask


LABEL = wires((10, 5, 55), (20, 5, 55), (30, 5, 55))


@pytest.mark.parametrize(
    "prediction, expected",
    [
        (LABEL, {}),
        (wires((10, 5, 20), (10, 25, 40), (10, 45, 55), (20, 5, 55), (30, 5, 55)), {"opens": 2}),
        (LABEL | np.pad(np.ones((24, 2), bool), ((10, 26), (30, 28))), {"shorts": 2}),
        (LABEL | wires((45, 20, 40)), {"false_positives": 1}),
        (wires((10, 5, 55), (30, 5, 55)), {"false_negatives": 1}),
        (np.zeros_like(LABEL), {"false_negatives": 3}),
        (LABEL | wires((45, 20, 23)), {}),  # 12 pixels are noise
    ],
)
def test_each_kind(prediction, expected):
    count = metrics.electrically_significant_differences
    want = ElectricalDifferences(**expected, nets=3)
    assert count(LABEL, prediction, border=0) == want
    polygons = (layout.outlines(mask) for mask in (LABEL, prediction))
    assert count(*polygons) == want
    found = electrical.faults(*metrics.electrical_regions(LABEL, prediction, border=0))
    kinds = [fault.kind for fault in found]
    assert {kind: kinds.count(kind) for kind in kinds} == expected


def test_what_lies_in_the_border_alone_is_left_out():
    found = metrics.electrically_significant_differences(LABEL, LABEL & False, border=12)
    assert found == ElectricalDifferences(false_negatives=3, nets=3)
    found = metrics.electrically_significant_differences(LABEL, LABEL & False, border=13)
    assert found == ElectricalDifferences(false_negatives=2, nets=2)
    found = metrics.electrically_significant_differences(
        layout.outlines(LABEL), [], size=LABEL.shape, border=15
    )
    assert found == ElectricalDifferences(false_negatives=2, nets=2)


def test_diagonal_neighbours_hang_together():
    label = np.kron(np.eye(2, dtype=bool), np.ones((10, 10), bool))
    for shapes in ((label, label), tuple(layout.outlines(mask) for mask in (label, label))):
        found = metrics.electrically_significant_differences(*shapes, border=0)
        assert found == ElectricalDifferences(nets=1)


def test_counts_add_up_and_shapes_must_agree():
    one = ElectricalDifferences(1, 2, 3, 4, 5)
    assert dataclasses.astuple(one + one) == (2, 4, 6, 8, 10)
    with pytest.raises(ValueError, match="of one size"):
        metrics.electrically_significant_differences(LABEL, LABEL[1:])


def test_the_picture_has_a_colour_for_each_kind():
    label = wires((1, 40, 55), (40, 5, 55), (46, 5, 55), (52, 5, 55), (34, 5, 55))
    prediction = wires((40, 5, 25), (40, 30, 55), (46, 5, 55), (52, 5, 55), (20, 5, 25))
    prediction[46:56, 50:54] = True
    drawn = pictures.electrical_map(label, prediction)
    for pixel, colour in (
        ((41, 10), pictures.OPENED),
        ((41, 27), pictures.LACKING),
        ((47, 10), pictures.SHORTED),
        ((21, 10), pictures.INVENTED),
        ((35, 40), pictures.MISSED),
        ((2, 50), pictures.EMPTY),  # lies in the border alone
    ):
        assert tuple(drawn[pixel]) == colour, pixel
    assert (drawn == 255).all(-1).any()  # rings
