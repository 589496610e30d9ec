"""TFDS builder of HY5SYN, scanning electron micrographs with metal tracks and vias labelled."""

import dataclasses
import pathlib

import numpy as np
import tensorflow_datasets.public_api as tfds
from eal_icnet_jax.datasets.hy5syn import download, svg_labels
from etils import epath

from eal_icnet_jax import builders, trees

CROP = 1024


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
    """How tiles are cut: `covering` crops reach the last row and column, others need not."""

    covering: bool


def starts(length: int, covering: bool) -> list[int]:
    """Where crops begin along an axis; a shorter axis is one crop."""
    if length <= CROP:
        return [0]
    grid = list(range(0, length - CROP + 1, CROP))
    return [*grid, length - CROP] if covering and length % CROP else grid


class Builder(builders.TreeBuilder):
    """Features: image (grey), label (tracks), via_label, name, tile, crop_offset (row, column)."""

    pkg_dir_path = epath.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        Config(
            name="covering",
            description="Crops of 1024x1024 that cover each tile; the last row and column overlap.",
            covering=True,
        ),
        Config(
            name="grid",
            description="The crops of 1024x1024 that fit each tile side by side.",
            covering=False,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "HY5SYN is public: get it from doi.org/10.17617/3.HY5SYN and lay it out as "
        "sems/semNNNN.png and labels/labelNNNN.svg"
    )
    LICENSE = "CC BY 4.0"
    DOWNLOADS = True
    SOURCE = trees.Source(
        channels=1,
        layouts=(
            trees.Layout(
                images="sems",
                labels="labels",
                image_prefix="sem",
                label_prefix="label",
                label_suffixes=(".svg",),
            ),
        ),
        labels=("label", "via_label"),
        read_labels=svg_labels.read,
    )

    def more_features(self) -> dict:
        return {
            "tile": tfds.features.Text(),
            "crop_offset": tfds.features.Tensor(shape=(2,), dtype=np.int32),
        }

    def windows(self, height: int, width: int) -> list[builders.Window]:
        covering = self.builder_config.covering
        return [
            (top, left, min(CROP, height), min(CROP, width))
            for top in starts(height, covering)
            for left in starts(width, covering)
        ]

    def identity(self, name: str, window: builders.Window) -> dict:
        top, left, _, _ = window
        return {
            "name": f"{name}_y{top:04}_x{left:04}",
            "tile": name,
            "crop_offset": np.array([top, left], np.int32),
        }

    def root(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        if self.manual_dir is not None:
            return self.manual_dir
        return download.tree(dl_manager)
