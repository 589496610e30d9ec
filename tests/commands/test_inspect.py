"""`eal-icnet inspect` on folders and prepared datasets."""

import json

import pytest

from tests import cli


def test_a_folder_is_inspected(sample_trees, tmp_path):
    given = "inspect", "omc", f"--manual-dir={sample_trees / 'omc'}", "-o", tmp_path, "--columns=2"
    result = cli.run(*given)
    assert result.returncode == 0, result.stderr
    assert "suspicious pairs" in result.stdout
    assert f"pictures and tables in {tmp_path}" in result.stdout
    assert (tmp_path / "contact_sheet.png").exists()


def test_a_prepared_dataset_is_read_with_all_its_masks(prepared_trees, tmp_path):
    result = cli.call("inspect", "hy5syn", f"--data-dir={prepared_trees}", f"--output={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "via_label %" in result.stdout
    assert "train/sem0000_y0000_x0000" not in result.stdout
    statistics = json.loads((tmp_path / "statistics.json").read_text())["splits"]
    foreground = statistics["train"]["foreground"]
    info = json.loads((prepared_trees / "hy5syn/covering/1.0.0/metadata.json").read_text())
    assert foreground == pytest.approx(info["splits"]["train"]["foreground"])


def test_only_a_report_of_its_own_is_replaced(sample_trees, tmp_path):
    given = "inspect", "omc", f"--manual-dir={sample_trees / 'omc'}", "-o", tmp_path
    foreign = tmp_path / "suspicious.csv"
    foreign.write_text("my own notes\n")
    message = f"{foreign} exists and was not written by this program"
    assert message in cli.error_of(*given)
    assert [path.name for path in tmp_path.iterdir()] == ["suspicious.csv"]
    assert foreign.read_text() == "my own notes\n"
    assert cli.call(*given, "--force").returncode == 0
    assert cli.call(*given).returncode == 0  # the report is its own now
    (tmp_path / "statistics.json").write_text("{}")
    assert "statistics.json exists and was not written" in cli.error_of(*given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["omv", "--manual-dir=none"], "none is not a folder"),
        (["omq", "--manual-dir=none"], "unknown dataset 'omq'"),
        (["ic_synthetic", "--manual-dir=none"], "ic_synthetic is not read from a folder"),
        (["omv", "--data-dir=none"], "omv/1.0.0 is not prepared in none"),
        (["omv", "--columns=0"], "--columns is 0: name 1 or more"),
        (["omv", "--columns=-3"], "--columns is -3: name 1 or more"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in cli.error_of("inspect", *arguments, f"--output={tmp_path / 'report'}")
    assert not (tmp_path / "report").exists()
