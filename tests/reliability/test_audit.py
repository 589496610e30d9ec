"""The audit finds the releases that an advisory is about, and no others."""

import pathlib
import sys

import pytest
from packaging.version import Version

from tests.reliability import audit


def advisory(number: int, ranges: str = "[]", versions: str = "[]", more: str = "") -> str:
    return f"""
id: PYSEC-2024-{number}
aliases: [CVE-2024-{number}]
modified: 2024-05-0{number}T00:00Z
{more}
details: It reads too much.
affected:
- package: {{ecosystem: PyPI, name: Some_Name}}
  ranges: {ranges}
  versions: {versions}
"""


@pytest.fixture
def advisories(tmp_path):
    folder = tmp_path / "vulns" / "some-name"
    folder.mkdir(parents=True)
    twice = (
        "[{type: ECOSYSTEM, events: [{introduced: '0'}, {fixed: '1.2'}, {introduced: '2.0'}, "
        "{last_affected: '2.1'}]}, {type: GIT, events: [{introduced: '0'}]}]"
    )
    (folder / "PYSEC-2024-1.yaml").write_text(advisory(1, ranges=twice))
    (folder / "PYSEC-2024-2.yaml").write_text(advisory(2, versions="['3.0', 'not-a-version']"))
    (folder / "PYSEC-2024-3.yaml").write_text(
        advisory(3, versions="['4.0']", more="withdrawn: 2024-06-01T00:00Z")
    )
    return tmp_path


@pytest.mark.parametrize(
    ("version", "known"),
    [("1.1.9", [1]), ("1.2", []), ("2.0", [1]), ("2.1", [1]), ("2.1.1", []), ("3.0.0", [2]),
     ("4.0", [])],
)  # fmt: skip
def test_affected_releases_are_found(advisories, version, known):
    packages = {"some-name": Version(version), "other": Version("1.0")}
    found = audit.vulnerabilities(advisories, packages)
    assert [(name, advisory["id"]) for name, advisory in found] == [
        ("some-name", f"PYSEC-2024-{number}") for number in known
    ]


def test_vulnerabilities_are_printed_and_give_the_exit_status(advisories, monkeypatch, capsys):
    installed = audit.installed(sys.executable)
    assert "pytest" in installed and not any(version.local for version in installed.values())
    arguments = str(advisories), sys.executable
    assert audit.main(*arguments) == 0
    monkeypatch.setattr(audit, "installed", lambda python: {"some-name": Version("3.0")})
    assert audit.main(*arguments) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "some-name 3.0: PYSEC-2024-2, CVE-2024-2: It reads too much.",
        "1 packages, 3 advisories up to 2024-05-03: 1 known vulnerabilities",
    ]
    assert audit.main(str(pathlib.Path(__file__).parent), sys.executable) == 2
