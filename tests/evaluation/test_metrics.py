"""Metrics: golden values, documented edge cases, and AJI and AJI+ by their definitions."""

import itertools
import json

import numpy as np
import pytest
import scipy.ndimage

from eal_icnet_jax.evaluation import metrics
from tests.golden import recipe

PAIRS = np.load(recipe.HERE / "mask_pairs.npz")
EXPECTED = json.loads((recipe.HERE / "expected.json").read_text())
EMPTY, FULL = np.zeros((8, 8), bool), np.ones((8, 8), bool)
HALF = EMPTY.copy()
HALF[:4] = True


@pytest.mark.parametrize("index", range(6))
def test_metrics_of_golden_pairs(index):
    result = metrics.evaluate_masks(PAIRS["label"][index], PAIRS["prediction"][index])
    for name in metrics.METRICS:
        assert result[name] == pytest.approx(EXPECTED["pairs"][index][name], abs=1e-9)


def test_average_over_golden_pairs():
    rows = [metrics.evaluate_masks(*pair) for pair in zip(*PAIRS.values(), strict=True)]
    for name, value in metrics.average(rows).items():
        assert value == pytest.approx(EXPECTED["dataset_mean"][name], abs=1e-9)


@pytest.mark.parametrize(
    ("label", "prediction", "expected"),
    [
        (EMPTY, EMPTY, (1, 1, 1, 1, 1)),
        (FULL, FULL, (1, 1, 1, 1, 1)),
        (EMPTY, FULL, (0, 0, 0, 0, 0)),
        (FULL, EMPTY, (0, 0, 0, 0, 0)),
        (EMPTY, HALF, (0.25, 0.5, 0, 0, 0)),
        (HALF, EMPTY, (0.25, 0.5, 0, 0, 0)),
        (FULL, HALF, (0.25, 0.5, 2 / 3, 0.5, 0.5)),
        (HALF, FULL, (0.25, 0.5, 2 / 3, 0.5, 0.5)),
    ],
)
def test_empty_and_full_masks(label, prediction, expected):
    result = metrics.evaluate_masks(label, prediction)
    assert tuple(result.values()) == pytest.approx(expected)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(8, 8\) and \(8, 4\)"):
        metrics.evaluate_masks(EMPTY, EMPTY[:, :4])


def by_definition(label, prediction):
    """Return AJI and AJI+ by trying every pairing."""
    eight = np.ones((3, 3))
    true, n = scipy.ndimage.label(label, eight)
    predicted, m = scipy.ndimage.label(prediction, eight)
    true = [true == k + 1 for k in range(n)]
    predicted = [predicted == k + 1 for k in range(m)]

    def iou(t, p):
        return (t & p).sum() / (t | p).sum()

    def score(pairs):
        pairs = [(t, p) for t, p in pairs if (true[t] & predicted[p]).any()]
        shared = sum((true[t] & predicted[p]).sum() for t, p in pairs)
        total = sum((true[t] | predicted[p]).sum() for t, p in pairs)
        total += sum(true[t].sum() for t in set(range(n)) - {t for t, _ in pairs})
        total += sum(predicted[p].sum() for p in set(range(m)) - {p for _, p in pairs})
        return shared / total

    best = [(t, max(range(m), key=lambda p: iou(true[t], predicted[p]))) for t in range(n)]
    partners = list(range(m)) + [None] * n
    one_to_one = max(
        (
            [(t, p) for t, p in enumerate(order) if p is not None]
            for order in set(itertools.permutations(partners, n))
        ),
        key=lambda pairs: sum(iou(true[t], predicted[p]) for t, p in pairs),
    )
    return score(best), score(one_to_one)


@pytest.mark.parametrize("seed", range(12))
def test_aji_and_aji_plus_follow_their_definitions(seed):
    """Regions split, merge, vanish and appear between the two masks."""
    rng = np.random.default_rng(seed)
    field = scipy.ndimage.gaussian_filter(rng.standard_normal((24, 24)), 2)
    other = field + scipy.ndimage.gaussian_filter(rng.standard_normal((24, 24)), 2)
    label, prediction = field > 0.13, other > 0.18
    if not (label.any() and prediction.any()):
        pytest.skip("an empty mask")
    np.testing.assert_allclose(
        metrics.aggregated_jaccard(label, prediction), by_definition(label, prediction)
    )


def test_ignored_pixels_count_in_no_metric():
    rng = np.random.default_rng(5)
    label, prediction = rng.random((2, 64, 64)) < 0.4
    valid = np.ones((64, 64), bool)
    valid[:, 40:] = False
    found = metrics.evaluate_masks(label, prediction, valid)
    # The pixels that count are a rectangle, so that the figures are those of its image.
    assert found == metrics.evaluate_masks(label[:, :40], prediction[:, :40])
    assert found == metrics.evaluate_masks(label | ~valid, prediction ^ ~valid, valid)


def test_some_pixels_must_count():
    mask = np.ones((8, 8), bool)
    with pytest.raises(ValueError, match=r"some pixels count, but is \(8, 8\) with 0 such pixels"):
        metrics.evaluate_masks(mask, mask, np.zeros((8, 8), bool))
