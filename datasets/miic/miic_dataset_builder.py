"""TFDS builder of MIIC, scanning electron micrographs with circuits labelled."""

import tensorflow_datasets.public_api as tfds
from etils import epath

from eal_icnet_jax import builders, trees


class Builder(builders.TreeBuilder):
    """Features: image (grey), label (circuit), name."""

    pkg_dir_path = epath.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "get MIIC's images from doi.org/10.21979/N9/WBLTFI and unpack Anomaly_train/; its circuit "
        "labels are private, so put your own masks in label/ beside it, named as the images are, "
        "or lay both out as image/ and label/, flat or under train/, val/ and test/"
    )
    LICENSE = "Images: non-commercial use, see doi.org/10.21979/N9/WBLTFI. Labels: your own."
    SOURCE = trees.Source(
        channels=1,
        layouts=(trees.Layout(images="Anomaly_train", annotated_only=True), trees.Layout()),
    )
