"""The package's folders and version; pyproject.toml holds the rest of the metadata."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "eal_icnet_jax/__init__.py").read_text())[1]

# `datasets` and `configs` have no `__init__.py` of their own, so that they shadow nobody's package.
# A wheel ships them as `eal_icnet_jax.datasets` and `eal_icnet_jax.configs`, to which two links
# correspond in a checkout.
datasets = ["eal_icnet_jax.datasets"] + [
    f"eal_icnet_jax.datasets.{name}" for name in find_packages("datasets")
]

setup(
    version=VERSION,
    packages=[
        *find_packages(include=["eal_icnet_jax", "eal_icnet_jax.*"]),
        *datasets,
        "eal_icnet_jax.configs",
    ],
    package_dir={"eal_icnet_jax.datasets": "datasets", "eal_icnet_jax.configs": "configs"},
    package_data={
        "eal_icnet_jax": ["py.typed", "weights/*.safetensors"],
        "eal_icnet_jax.comparison": ["templates/*.jinja"],
        **{name: ["*.md", "*.txt", "*.bib"] for name in datasets[1:]},
    },
)
