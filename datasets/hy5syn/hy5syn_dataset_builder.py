"""TFDS builder of HY5SYN: scanning electron micrographs with masks of metal tracks and vias."""

import dataclasses
import pathlib

import numpy as np
import tensorflow_datasets.public_api as tfds
from etils import epath

from eal_icnet_jax.data import paired_folders, tfds_builder
from eal_icnet_jax.datasets.hy5syn import download
from eal_icnet_jax.vector import svg_labels

CROP = 1024
"""Side of a crop in pixels."""


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
    """How tiles are cut.

    Attributes:
      covering: whether crops overlap so that they reach the last row and column.
    """

    covering: bool


def crop_starts(length: int, covering: bool) -> list[int]:
    """Return where crops begin along an axis. An axis shorter than `CROP` is one crop."""
    if length <= CROP:
        return [0]
    grid = list(range(0, length - CROP + 1, CROP))
    return [*grid, length - CROP] if covering and length % CROP else grid


class Builder(tfds_builder.PairedFolderBuilder):
    """Builder with the features image (grey), label (tracks), via_label, name, tile, crop_offset.

    `crop_offset` is the row and the column of the crop's first pixel in its tile.
    """

    pkg_dir_path = epath.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        Config(
            name="covering",
            description="Crops of 1024x1024 that cover each tile; the last ones overlap.",
            covering=True,
        ),
        Config(
            name="grid",
            description="Crops of 1024x1024 that fit side by side into each tile.",
            covering=False,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "HY5SYN is public: get it from doi.org/10.17617/3.HY5SYN and lay it out as "
        "sems/semNNNN.png and labels/labelNNNN.svg"
    )
    LICENSE = "CC BY 4.0"
    DOWNLOADS = True
    SOURCE = paired_folders.SourceFormat(
        channels=1,
        layouts=(
            paired_folders.FolderLayout(
                images="sems",
                labels="labels",
                image_prefix="sem",
                label_prefix="label",
                label_suffixes=(".svg",),
            ),
        ),
        labels=("label", "via_label"),
        read_labels=svg_labels.read,
        has_levels=False,
    )

    def extra_features(self) -> dict:
        return {
            "tile": tfds.features.Text(),
            "crop_offset": tfds.features.Tensor(shape=(2,), dtype=np.int32),
        }

    def windows(self, height: int, width: int) -> list[tfds_builder.Window]:
        covering = self.builder_config.covering
        return [
            (top, left, min(CROP, height), min(CROP, width))
            for top in crop_starts(height, covering)
            for left in crop_starts(width, covering)
        ]

    def window_values(self, name: str, window: tfds_builder.Window) -> dict:
        top, left, _, _ = window
        return {
            "name": f"{name}_y{top:04}_x{left:04}",
            "tile": name,
            "crop_offset": np.array([top, left], np.int32),
        }

    def source_folder(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        if self.manual_dir is not None:
            return self.manual_dir
        return download.download(dl_manager)
