"""Places where another threshold changes what is connected, and squares of most errors."""

import cv2
import numpy as np
import pytest

from eal_icnet_jax.evaluation.calibration import BINS, Calibration
from eal_icnet_jax.imaging.regions import connected_regions
from eal_icnet_jax.review import places
from eal_icnet_jax.review.places import find_places, find_places_in_blocks, worst_squares

NOTHING = Calibration.nothing()


def wires() -> np.ndarray:
    """Probabilities with one place of each kind: wires of 8 pixels on a ground of 0.02."""
    p = np.full((120, 160), 0.02, np.float32)
    p[10:18, 5:155] = p[40:48, 5:155] = p[70:78, 5:155] = 0.97
    p[40:48, 60:66] = 0.6  # the second wire may be cut
    p[48:70, 100:106] = 0.3  # and may be joined to the third
    p[90:98, 20:60] = 0.35  # a wire that the mask lacks
    p[90:98, 100:140] = 0.7  # one that may not exist
    p[104:108, 5:155] = 0.05  # not plausible
    return p


def test_each_kind_is_found_where_it_lies():
    found = find_places(wires(), "metal", NOTHING)
    by_kind = {place.kind: place for place in found}
    assert len(found) == len(by_kind) == 4 and set(by_kind) == set(places.KINDS)
    cut, joined = by_kind["short"], by_kind["open"]
    assert 40 <= cut.y < 48 and 60 <= cut.x < 66 and cut.probability == pytest.approx(0.6)
    assert 48 <= joined.y < 70 and 100 <= joined.x < 106
    assert joined.probability == pytest.approx(0.3, abs=1e-4)
    assert joined.chance == pytest.approx(0.3, abs=1e-4) and cut.chance == pytest.approx(0.4)
    missed, invented = by_kind["missed"], by_kind["invented"]
    assert (90 <= missed.y < 98 and 20 <= missed.x < 60) and missed.chance == pytest.approx(0.35)
    assert 100 <= invented.x < 140 and invented.chance == pytest.approx(0.3)
    assert [place.chance for place in found] == sorted((p.chance for p in found), reverse=True)


def test_a_second_connection_of_two_wires_is_no_place():
    p = wires()
    p[48:70, 20:26] = 0.45  # a likelier one between the same two wires
    joins = [place for place in find_places(p, "metal", NOTHING) if place.kind == "open"]
    assert len(joins) == 1 and 20 <= joins[0].x < 26
    p[48:70, 20:26] = 0.97
    kinds = {place.kind for place in find_places(p, "metal", NOTHING)}
    assert "open" not in kinds and "short" in kinds  # two wires in one, cut in one place


def test_vias_are_missed_or_invented_only():
    found = find_places(wires(), "via", NOTHING, is_via=True)
    assert {place.kind for place in found} == {"missed", "invented"}


def test_the_calibration_says_what_is_plausible_and_how_likely():
    pixels = np.full(BINS, 1000.0)
    centres = (np.arange(BINS) + 0.5) / BINS
    observed = np.where(centres < 0.45, 0.0, np.where(centres > 0.65, 1.0, 0.5))
    sharp = Calibration(pixels, pixels * centres, pixels * observed)
    assert sharp.plausible_thresholds(0.5) == (0.45, 0.65)
    found = find_places(wires(), "metal", sharp)
    assert [place.kind for place in found] == ["short"]
    assert found[0].chance == pytest.approx(0.5)


@pytest.mark.parametrize("block", [40, 64])
def test_blocks_find_what_the_whole_image_shows(block, monkeypatch):
    p = wires()
    monkeypatch.setattr(places, "BLOCK", block)
    monkeypatch.setattr(places, "MARGIN", 200)
    found = find_places_in_blocks(p, p.shape, "metal", NOTHING, 0.5, False)
    assert sorted(found, key=repr) == sorted(find_places(p, "metal", NOTHING), key=repr)


def test_squares_hold_as_many_errors_as_possible():
    rng = np.random.default_rng(0)
    crowd = [(300 + dx, 200 + dy, 0.3) for dx, dy in rng.integers(-20, 20, (9, 2))]
    alone = [(int(x), int(y), 0.5) for x, y in rng.integers(400, 1000, (6, 2))]
    found = [places.Place("open", "metal", x, y, chance, chance) for x, y, chance in crowd + alone]
    squares = worst_squares(found, (1000, 1000), 64, 4)
    assert len(squares[0].places) == 9 and squares[0].expected_errors == pytest.approx(2.7)
    sums = [square.expected_errors for square in squares]
    assert sums == sorted(sums, reverse=True)
    seen = [place for square in squares for place in square.places]
    assert len(seen) == len(set(seen))
    for square in squares:
        assert (square.rows.stop - square.rows.start) == 64
        for place in square.places:
            assert square.rows.start <= place.y < square.rows.stop
            assert square.columns.start <= place.x < square.columns.stop


def test_squares_at_the_border_lie_within_the_image():
    rows, columns = places.square_around(1, 99, 32, (100, 20))
    assert rows == slice(68, 100) and columns == slice(0, 20)
    assert worst_squares([], (100, 100), 32, 5) == []


@pytest.mark.parametrize("seed", range(4))
def test_passes_are_the_thresholds_at_which_regions_join(seed):
    """Against the number of connected regions at every threshold, of smooth random fields."""
    field = cv2.GaussianBlur(np.random.default_rng(seed).random((90, 110)), (0, 0), 4)
    p = ((field - field.min()) / np.ptp(field)).astype(np.float32)
    seeds, _ = connected_regions(p >= 0.7)
    passes = places._passes(p, seeds, 0.4)
    assert len(passes) > 3
    values = [value for value, _, _ in passes]
    assert values == sorted(values, reverse=True)
    assert [value for value, y, x in passes] == [float(p[y, x]) for _, y, x in passes]
    for threshold in np.linspace(0.4, 0.7, 31):
        regions, _ = connected_regions(p >= threshold)
        groups = len(np.unique(regions[seeds > 0]))
        assert seeds.max() - sum(value >= threshold for value in values) == groups
