"""Package metadata; pyproject.toml holds the build system and the tools' settings."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "eal_icnet_jax/__init__.py").read_text())[1]

TORCH = ["torch>=2.6"]
TEST = [
    "hypothesis>=6.100",
    "klayout>=0.28",
    "pytest>=8",
    "pytest-xdist>=3.8",
    "setuptools>=77",
    "wheel>=0.43",
    *TORCH,
]

datasets = ["eal_icnet_jax.datasets"] + [
    f"eal_icnet_jax.datasets.{name}" for name in find_packages("datasets")
]

setup(
    name="eal-icnet-jax",
    version=VERSION,
    description="EAL-ICNet in JAX: segmentation of integrated-circuit micrographs",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["eal_icnet_jax", "eal_icnet_jax.*"]),
        *datasets,
        "eal_icnet_jax.configs",
    ],
    # `datasets` and `configs` are plain folders here, so that they shadow nobody's package.
    package_dir={"eal_icnet_jax.datasets": "datasets", "eal_icnet_jax.configs": "configs"},
    package_data={
        "eal_icnet_jax": ["templates/*.jinja"],
        **{name: ["*.md", "*.txt", "*.bib"] for name in datasets[1:]},
    },
    install_requires=[
        "absl-py>=2.1",
        "array-record>=0.8",
        "clu>=0.0.12",
        "contourpy>=1.2",
        "defusedxml>=0.7",
        "filelock>=3.12",
        "flax>=0.12",
        "gdstk>=0.9.50",
        "grain>=0.2.14",
        "imagecodecs>=2025.8.2",
        "imagehash>=4.3",
        "importlib-resources>=6",  # which tensorflow-datasets uses and does not require
        "jax>=0.7.1",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "ml-collections>=1.0",
        "numcodecs>=0.15",
        "numpy>=1.26",
        "opencv-python-headless>=4.10",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.25",
        "requests>=2.31",
        "safetensors>=0.4.5",
        "scipy>=1.12",
        "shapely>=2.0.2",
        "tensorboardX>=2.6.4",
        "tensorflow-datasets>=4.9.10",
        "tifffile>=2025.9.20",
        "tqdm>=4.66",
        "zarr>=3.1.3",
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "torch": TORCH,
        "tfds": [
            "apache-beam>=2.60",
            "mlcroissant>=1.0",
            "tensorflow>=2.18",
        ],
        "test": TEST,
        "soak": ["atheris>=2.3", *TEST],
        "dev": [*TEST, "ruff>=0.12"],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
