"""Report known vulnerabilities of installed packages, from a copy of PyPA's advisories.

    python -m tests.reliability.audit ADVISORIES PYTHON

For machines that do not reach PyPI, which `pip-audit` needs. ADVISORIES is a clone of
github.com/pypa/advisory-database, whose files have OSV's format (ossf.github.io/osv-schema).
PYTHON is the interpreter of the environment. Exits with status 1 if there are vulnerabilities.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LISTED = """
import importlib.metadata, json
print(json.dumps([[each.name, each.version] for each in importlib.metadata.distributions()]))
"""


def installed(python: str) -> dict[str, Version]:
    """Return the release of each package of an environment by normalised name, without builds."""
    listed = subprocess.run([python, "-c", LISTED], check=True, capture_output=True, text=True)
    return {
        canonicalize_name(name): Version(Version(version).public)
        for name, version in json.loads(listed.stdout)
    }


def _parsed(version: str) -> Version | None:
    try:
        return Version(version)
    except InvalidVersion:  # of an old release, which nothing installs any more
        return None


def _in_range(version: Version, events: list[dict]) -> bool:
    """Return whether a release lies in a range of introduced, fixed and last affected releases."""
    inside = False
    for event in events:  # ordered, as the schema requires
        ((kind, at),) = event.items()
        bound = Version(at)
        if kind == "introduced" and version >= bound:
            inside = True
        elif (kind == "fixed" and version >= bound) or (
            kind == "last_affected" and version > bound
        ):
            inside = False
    return inside


def affects(advisory: dict, name: str, version: Version) -> bool:
    """Return whether an advisory, unless it is withdrawn, is about a release of a package."""
    if "withdrawn" in advisory:
        return False
    return any(
        version in map(_parsed, affected.get("versions", ()))
        or any(
            _in_range(version, each["events"])
            for each in affected.get("ranges", ())
            if each["type"] == "ECOSYSTEM"
        )
        for affected in advisory["affected"]
        if canonicalize_name(affected["package"]["name"]) == name
    )


def _read(path: pathlib.Path) -> dict:
    return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def vulnerabilities(
    advisories: pathlib.Path, packages: dict[str, Version]
) -> Iterator[tuple[str, dict]]:
    """Yield each package's name with each advisory that is about its release."""
    for name, version in sorted(packages.items()):
        for path in sorted((advisories / "vulns" / name).glob("*.yaml")):
            if affects(advisory := _read(path), name, version):
                yield name, advisory


def main(advisories: str, python: str) -> int:
    root = pathlib.Path(advisories)
    if not (files := sorted(root.glob("vulns/*/*.yaml"))):
        print(f"error: {root} is no clone of github.com/pypa/advisory-database", file=sys.stderr)
        return 2
    packages, count = installed(python), 0
    for name, advisory in vulnerabilities(root, packages):
        count += 1
        names = ", ".join([advisory["id"], *advisory.get("aliases", ())])
        print(f"{name} {packages[name]}: {names}: {' '.join(advisory['details'].split())[:160]}")
    newest = max(str(_read(path)["modified"])[:10] for path in files)
    print(
        f"{len(packages)} packages, {len(files)} advisories up to {newest}: {count} known "
        "vulnerabilities"
    )
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
