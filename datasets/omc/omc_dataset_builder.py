"""TFDS builder of OMC: optical micrographs with masks of the circuits."""

import tensorflow_datasets.public_api as tfds
from etils import epath

from eal_icnet_jax.data import paired_folders, tfds_builder


class Builder(tfds_builder.PairedFolderBuilder):
    """Builder with the features image (RGB), label (circuits) and name."""

    pkg_dir_path = epath.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "OMC is private: ask the authors of EAL-ICNet for it, or use your own micrographs; lay "
        "them out as image/ and label/ with the same file names, flat or under train/, val/ and "
        "test/"
    )
    LICENSE = "Private to the authors of EAL-ICNet."
    SOURCE = paired_folders.SourceFormat(channels=3)
