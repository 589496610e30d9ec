"""Writes THIRD_PARTY.md: what this package needs, and under which licence each of it comes.

    python -m tests.reliability.licences PYTHON

PYTHON is that of an environment with the package and nothing else, pip-licenses in this one.
"""

import json
import pathlib
import subprocess
import sys

HEAD = """# Third-party software

What `pip install .` brings beside this package, and under which licence, as its own metadata say.
`make licences` writes this file; a test sees to it that every requirement is in it.

| package | licence | home |
|---|---|---|
"""


def main(python: str):
    command = ["pip-licenses", f"--python={python}", "--from=mixed", "--with-urls", "-f", "json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rows = []
    for one in sorted(listed, key=lambda one: one["Name"].lower()):
        licence = one["License"].strip().splitlines()[0].strip()
        home = one["URL"] if one["URL"] != "UNKNOWN" else ""
        if one["Name"].lower() != "eal-icnet-jax":
            rows.append(f"| {one['Name']} | {licence} | {home} |\n")
    path = pathlib.Path(__file__).parents[2] / "THIRD_PARTY.md"
    path.write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main(sys.argv[1])
