"""Strokes: their pixels, their file, undo and redo, and what a killed process leaves."""

import json

import numpy as np
import pytest

from eal_icnet_jax.review.strokes import MOST_POINTS, Stroke, StrokeLog, painted
from eal_icnet_jax.system.errors import UserError

HEADER = {"input": "a.png", "bytes": 7}


def line(*points, width=4.0, layer="metal", adds=True):
    return Stroke(layer, adds, "line", points, width)


EMPTY = np.zeros((40, 60), bool)


def test_a_wire_has_its_width_and_place():
    mask = painted(EMPTY, [line((10, 20), (50, 20))], "metal")
    rows = np.flatnonzero(mask[:, 30])
    assert len(rows) == 4 and abs(rows.mean() + 0.5 - 20) <= 0.5
    assert mask[20, 8:52].all() and not mask[20, :6].any() and not mask[20, 55:].any()


def test_areas_and_disks_cover_what_they_enclose():
    area = Stroke("metal", True, "area", ((5, 5), (25, 5), (25, 15), (5, 15)))
    mask = painted(EMPTY, [area], "metal")
    assert mask[6:14, 6:24].all() and abs(mask.sum() - 200) < 40
    disk = painted(EMPTY, [Stroke("via", True, "disk", ((30, 20),), 10)], "via")
    assert abs(disk.sum() - np.pi * 25) < 15
    y, x = np.nonzero(disk)
    assert abs(x.mean() + 0.5 - 30) < 0.3 and abs(y.mean() + 0.5 - 20) < 0.3


def test_later_strokes_lie_upon_earlier_ones():
    gap = line((30, 0), (30, 40), width=8, adds=False)
    strokes = [line((0, 20), (60, 20)), gap, line((30, 20), width=3)]
    mask = painted(EMPTY, strokes, "metal")
    assert mask[20, 10] and mask[20, 30] and not mask[20, 33] and not mask[20, 27]
    assert not painted(EMPTY, strokes, "via").any()


@pytest.mark.parametrize("part", [(slice(3, 30), slice(11, 47)), (slice(0, 40), slice(20, 21))])
def test_a_part_is_that_part_of_the_whole(part):
    rng = np.random.default_rng(0)
    strokes = []
    for _ in range(30):
        points = tuple(map(tuple, rng.uniform(-10, 70, (4, 2)).tolist()))
        shape = str(rng.choice(["line", "area", "disk"]))
        strokes.append(Stroke("metal", bool(rng.random() < 0.6), shape, points, rng.uniform(1, 9)))
    whole = painted(EMPTY, strokes, "metal")
    rows, columns = part
    found = painted(EMPTY[part], strokes, "metal", columns.start, rows.start)
    np.testing.assert_array_equal(found, whole[part])
    coarse = painted(np.zeros((20, 30)), strokes, "metal", scale=0.5)
    assert np.mean(coarse != whole[::2, ::2]) < 0.2


def test_everything_can_be_undone_and_redone(tmp_path):
    log = StrokeLog(tmp_path / "edits/a.jsonl", HEADER)
    strokes = [line((k, k), (k + 5, k)) for k in range(12)]
    for stroke in strokes:
        log.add(stroke)
    for _ in range(12):
        assert log.undo()
    assert not log.undo() and log.strokes == []
    for _ in range(7):
        assert log.redo()
    again = StrokeLog(tmp_path / "edits/a.jsonl", HEADER)  # as after a kill
    assert again.strokes == log.strokes == strokes[:7]
    assert again.redo() and again.strokes == strokes[:8]
    again.add(strokes[11])
    assert not again.redo() and again.strokes == [*strokes[:8], strokes[11]]
    assert StrokeLog(tmp_path / "edits/a.jsonl", HEADER).strokes == again.strokes


def test_a_line_that_was_cut_off_is_dropped_and_the_rest_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    log = StrokeLog(path, HEADER)
    log.add(line((1, 1), (2, 2)))
    whole = path.read_bytes()
    log.add(line((3, 3), (4, 4)))
    for cut in range(1, len(path.read_bytes()) - len(whole)):
        path.write_bytes(whole + b'{"do":"add"'[:cut])
        assert StrokeLog(path, HEADER).strokes == log.strokes[:1]
        assert path.read_bytes() == whole
    reopened = StrokeLog(path, HEADER)
    reopened.add(line((5, 5), (6, 6)))
    assert len(StrokeLog(path, HEADER).strokes) == 2


def test_another_photograph_and_damage_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    StrokeLog(path, HEADER).add(line((1, 1), (2, 2)))
    with pytest.raises(UserError, match="corrections of another photograph, or the photograph has"):
        StrokeLog(path, {**HEADER, "bytes": 8})
    good = path.read_bytes()
    for bad in (
        b"[]\n", b'{"do":"add"}\n', b'{"do":"run"}\n', b'{"do":"redo"}\n', b"\xff\n", b"1e999\n",
        b'{"do":"add","stroke":{"layer":"metal","adds":true,"shape":"line","points":[[NaN,1]],'
        b'"width":3}}\n', b"[" * 100_000 + b"\n",
    ):  # fmt: skip
        path.write_bytes(good + bad)
        with pytest.raises(UserError, match=r"a.jsonl is damaged"):
            StrokeLog(path, HEADER)
        assert path.read_bytes() == good + bad


@pytest.mark.parametrize(
    "change",
    [
        {"layer": "poly"}, {"shape": "spline"}, {"points": []}, {"points": [[1e9, 0]]},
        {"points": [[1, 2, 3]]}, {"width": 0}, {"width": 1e5}, {"width": float("nan")},
        {"points": [[1, 1]] * (MOST_POINTS + 1)}, {"shape": "area", "points": [[1, 1], [2, 2]]},
    ],
    ids=str,
)  # fmt: skip
def test_strokes_without_sense_are_refused(change):
    content = json.loads(json.dumps(line((1, 1), (2, 2)).to_json())) | change
    with pytest.raises((ValueError, TypeError)):
        Stroke.from_json(content)
