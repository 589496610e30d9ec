"""TFDS builder of MIIC: scanning electron micrographs with masks of the circuits."""

import tensorflow_datasets.public_api as tfds
from etils import epath

from eal_icnet_jax.data import paired_folders, tfds_builder


class Builder(tfds_builder.PairedFolderBuilder):
    """Builder with the features image (grey), label (circuits) and name."""

    pkg_dir_path = epath.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "get MIIC's images from doi.org/10.21979/N9/WBLTFI and unpack Anomaly_train/; its circuit "
        "labels are private, so put your own masks in label/ beside it, with the images' names, "
        "or lay both out as image/ and label/, flat or under train/, val/ and test/"
    )
    LICENSE = "Images: non-commercial use, see doi.org/10.21979/N9/WBLTFI. Labels: your own."
    SOURCE = paired_folders.SourceFormat(
        channels=1,
        layouts=(
            paired_folders.FolderLayout(images="Anomaly_train", annotated_only=True),
            paired_folders.FolderLayout(),
        ),
    )
