"""Write THIRD_PARTY.md, the table of all required packages and their licences.

    python -m tests.reliability.licences PYTHON

PYTHON is the interpreter of an environment with only this package and its requirements. The
environment that runs this module needs pip-licenses.
"""

import json
import pathlib
import subprocess
import sys

HEAD = """# Third-party software

The packages that `pip install .` installs with this one, and the licences in their metadata.
`make licences` writes this file. A test checks that every requirement is in it.

| package | licence | home |
|---|---|---|
"""


def main(python: str):
    command = ["pip-licenses", f"--python={python}", "--from=mixed", "--with-urls", "-f", "json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rows = []
    for package in sorted(listed, key=lambda package: package["Name"].lower()):
        licence = package["License"].strip().splitlines()[0].strip()
        home = package["URL"] if package["URL"] != "UNKNOWN" else ""
        if package["Name"].lower() != "eal-icnet-jax":
            rows.append(f"| {package['Name']} | {licence} | {home} |\n")
    path = pathlib.Path(__file__).parents[2] / "THIRD_PARTY.md"
    path.write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main(sys.argv[1])
