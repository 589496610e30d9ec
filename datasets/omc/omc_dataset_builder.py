"""TFDS builder of OMC, optical micrographs with circuits labelled."""

import tensorflow_datasets.public_api as tfds
from etils import epath

from eal_icnet_jax import builders, trees


class Builder(builders.TreeBuilder):
    """Features: image (RGB), label (circuit), name."""

    pkg_dir_path = epath.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "OMC is private: ask the authors of EAL-ICNet for it, or take micrographs of your own; "
        "lay them out as image/ and label/ with the same file names, flat or under train/, val/ "
        "and test/"
    )
    LICENSE = "Private to the authors of EAL-ICNet."
    SOURCE = trees.Source(channels=3)
