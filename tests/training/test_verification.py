"""Verification finds every recorded figure that does not hold, and allows rounding."""

import json

import pytest

from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import verification
from eal_icnet_jax.training.verification import FigureCheck
from tests import cli


def report(opens=3, nets=500, **means) -> dict:
    """Return an evaluation report of one image."""
    means = {"mIoU": 0.9, "F1": 0.8, **means}
    counts = {"opens": opens, "shorts": 0, "nets": nets}
    return {
        "images": 1,
        "mean": {"label": means},
        "electrical": {"label": counts},
        "per_image": [{"name": "a", "label": "label", **means, **counts}],
    }


def test_equal_reports_hold_exactly():
    check = FigureCheck(report(), report())
    assert check.failures() == []
    assert check.summary("it") == "all figures of it hold exactly"


@pytest.mark.parametrize(("nets", "opens"), [(500, 5), (10, 5), (100_000, 1003)])
def test_counts_that_differ_by_rounding_hold(nets, opens):
    """By a hundredth of the nets, and at least by two."""
    check = FigureCheck(report(3, nets), report(opens, nets))
    assert check.failures() == []
    assert "2 figures differ by rounding" in check.summary("it")


@pytest.mark.parametrize(("nets", "opens"), [(500, 400), (500, 9), (10, 6), (10, 0)])
def test_counts_that_differ_by_more_fail(nets, opens):
    assert FigureCheck(report(3, nets), report(opens, nets)).failures() == [
        f"opens of label is {opens}, recorded is 3"
    ]


def test_means_that_differ_by_more_than_rounding_fail_with_the_worst():
    assert FigureCheck(report(), report(mIoU=0.9005)).failures() == []
    check = FigureCheck(report(), report(mIoU=0.91, F1=0.7))
    assert check.failures() == ["mean F1 of label is 0.7, recorded is 0.8"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_mean_that_is_not_finite_fails(bad):
    assert FigureCheck(report(), report(F1=bad)).failures()
    assert FigureCheck(report(F1=bad), report()).failures()


def test_a_figure_that_is_not_recorded_fails():
    recorded = report()
    del recorded["electrical"]["label"]["opens"]
    assert FigureCheck(recorded, report()).failures() == ["opens of label is 3, recorded is nan"]


def test_reports_of_other_images_are_refused():
    other = report()
    other["per_image"][0]["name"] = "b"
    with pytest.raises(UserError, match=r"the data or config\.dataset\.splits differ"):
        FigureCheck(report(), other)


def test_verify_reports_that_the_figures_hold(workdir):
    lines = []
    verification.verify(workdir, None, lines.append)
    assert "all figures of 3 test images and the validation loss hold exactly" in lines
    assert lines[-1] == f"{workdir} is verified"
    assert any("is the data of the run, SHA-256" in line for line in lines)


def change_report(section, name, value):
    def change(run):
        path = run / "test" / "metrics.json"
        content = json.loads(path.read_text())
        content[section]["label"][name] = value
        path.write_text(json.dumps(content))

    return change


def change_validation_loss(run):
    path = run / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        if "validation_loss" in record:
            record["validation_loss"] *= 1.1
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def change_weights(run):
    best = checkpoints.resolve(run)
    files = best.glob("model/ocdbt.process_0/d/*")
    path = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_data_digest(run):
    path = run / "provenance.json"
    record = json.loads(path.read_text())
    record["data_sha256"] = dict.fromkeys(record["data_sha256"], "0" * 64)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            change_report("mean", "mIoU", 0.01),
            r"mean mIoU of label is 0\.\d+, recorded is 0\.01",
        ),
        (change_report("electrical", "opens", 4000), r"opens of label is \d+, recorded is 4000"),
        (change_validation_loss, "validation loss is"),
        (change_weights, "is damaged"),
        (change_data_digest, "is not the data of the run"),
    ],
    ids=["mean", "electrical count", "validation loss", "weights", "data"],
)
def test_verify_finds_what_does_not_hold(workdir_copy, change, message):
    change(workdir_copy)
    with pytest.raises(UserError, match=message):
        verification.verify(workdir_copy, None, lambda line: None)


def test_a_report_of_another_form_is_damaged(workdir_copy):
    (workdir_copy / "test" / "metrics.json").write_text('{"mean": 1}')
    with pytest.raises(UserError, match=r"metrics\.json is damaged: evaluate again"):
        verification.verify(workdir_copy, None, lambda line: None)


def test_verify_needs_a_finished_run(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json: name the workdir of a training"):
        verification.verify(tmp_path, None, lambda line: None)
    assert "name one workdir to verify, not 0" in cli.error_of("main", "--mode=verify")
