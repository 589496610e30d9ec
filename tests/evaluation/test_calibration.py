"""Calibration against its plain definition, and its file."""

import json

import numpy as np
import pytest

from eal_icnet_jax.evaluation.calibration import BINS, Calibration, read_calibrations
from eal_icnet_jax.system.errors import UserError


@pytest.fixture
def measured():
    """Predictions that are right as often as they say, and others that are too sure."""
    rng = np.random.default_rng(0)
    p = rng.random((200, 300))
    valid = rng.random(p.shape) < 0.8
    honest = rng.random(p.shape) < p
    sure = rng.random(p.shape) < 0.5 + 0.3 * (p - 0.5)
    return p, valid, honest, sure


def test_the_expected_error_follows_its_definition(measured):
    p, valid, honest, sure = measured
    for label in (honest, sure):
        found = Calibration.of(p, label, valid)
        total = 0
        for k in range(BINS):
            inside = valid & (p >= k / BINS) & (p < (k + 1) / BINS)
            total += inside.sum() * abs(p[inside].mean() - label[inside].mean())
        assert found.expected_error == pytest.approx(total / valid.sum())
    assert Calibration.of(p, honest, valid).expected_error < 0.02
    assert Calibration.of(p, sure, valid).expected_error > 0.15


def test_parts_add_up(measured):
    p, valid, honest, _ = measured
    whole = Calibration.of(p, honest, valid)
    parts = Calibration.of(p[:50], honest[:50], valid[:50]) + Calibration.of(
        p[50:], honest[50:], valid[50:]
    )
    for name in ("pixels", "predicted", "foreground"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name))


def test_the_chance_is_what_was_observed(measured):
    p, valid, honest, sure = measured
    assert Calibration.of(p, honest, valid).chance_of_foreground(0.3) == pytest.approx(
        0.3, abs=0.03
    )
    too_sure = Calibration.of(p, sure, valid)
    assert too_sure.chance_of_foreground(0.9) == pytest.approx(0.62, abs=0.04)
    assert too_sure.plausible_thresholds(0.5) == (1e-3, 1 - 1e-3)
    assert Calibration.nothing().chance_of_foreground(0.7) == 0.7
    assert Calibration.nothing().plausible_thresholds(0.95) == (0.1, 1 - 1e-3)


def test_a_file_is_read_again_or_refused(measured, tmp_path):
    p, valid, honest, _ = measured
    path = tmp_path / "metrics.json"
    found = Calibration.of(p, honest, valid)
    path.write_text(json.dumps({"calibration": {"label": found.to_json()}}))
    (read,) = read_calibrations(path)
    assert read.expected_error == pytest.approx(found.expected_error, abs=1e-6)
    for content in ("", "{}", '{"calibration": {"label": {"pixels": [1]}}}', "[1, 2]"):
        path.write_text(content)
        with pytest.raises(UserError, match=r"holds no calibration .*: name the metrics.json"):
            read_calibrations(path)
    damaged = found.to_json() | {"pixels": [-1] * BINS}
    path.write_text(json.dumps({"calibration": {"label": damaged}}))
    with pytest.raises(UserError, match="its bins are damaged"):
        read_calibrations(path)
