"""The long tests write down what they found; `make soak` runs them and keeps that."""

import datetime
import json
import pathlib

import pytest

from eal_icnet_jax import provenance
from eal_icnet_jax.files import write_whole

FIGURES = pathlib.Path(__file__).parent / "soak.json"


@pytest.fixture
def figures(request):
    """A dict to fill; a test that passes leaves it in soak.json under its name."""
    found: dict = {}
    yield found
    all_of_them = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    all_of_them[request.node.name] = {
        "date": datetime.date.today().isoformat(),
        "commit": provenance.commit(),
        "versions": {name: provenance.versions()[name] for name in ("python", "jax", "flax")},
        **found,
    }
    if found:
        write_whole(FIGURES, json.dumps(all_of_them, indent=1, sort_keys=True) + "\n")
