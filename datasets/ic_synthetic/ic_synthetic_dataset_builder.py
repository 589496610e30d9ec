"""TFDS builder of drawn micrographs, which are generated without TensorFlow."""

import dataclasses
import functools
import pathlib

import tensorflow_datasets.public_api as tfds
from etils import epath
from tensorflow_datasets.core import hashing

from eal_icnet_jax.data import tfds_builder
from eal_icnet_jax.data.dataset_builders import file_digest
from eal_icnet_jax.datasets.ic_synthetic import examples, photograph_geometry
from eal_icnet_jax.system import workers
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.terminal import progress_bar

SHARD = 1000
"""Number of examples in a file."""


def _shuffled(split: str, count: int) -> list[int]:
    """Return the indices of a split's examples in the order in which TFDS shuffles them."""
    hasher = hashing.Hasher(split)
    return sorted(range(count), key=lambda k: hasher.hash_key(examples.example_name(split, k)))


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
    """A kind of drawn examples as a builder config."""

    kind: examples.Kind


class Builder(tfds_builder.ReproducibleBuilder, tfds.core.ShardBasedBuilder):
    """Builder with the features image, label and name, and via_label if the config has it.

    The examples lie in the order of a hash of their names, in which TFDS itself shuffles. But to
    shuffle more than a gigabyte, TFDS would import TensorFlow.
    """

    pkg_dir_path = epath.Path(__file__).parent  # of README, citation and tags
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        Config(name=kind.name, description=kind.description, kind=kind) for kind in examples.KINDS
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        kind = self.builder_config.kind

        def image(channels):
            shape = (kind.size, kind.size, channels)
            return tfds.features.Image(shape=shape, encoding_format="png")

        features = {
            "image": image(3 if kind.optical else 1),
            "label": image(1),
            "name": tfds.features.Text(),
        }
        if kind.via_label:
            features["via_label"] = image(1)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(),
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        kind = self.builder_config.kind
        layouts = () if self.manual_dir is None else self._layouts(self.manual_dir)
        self.info.metadata["layouts"] = {path.name: file_digest(path) for path in layouts}
        return {
            split: [
                functools.partial(
                    self._shard, split, _shuffled(split, count)[start : start + SHARD], layouts
                )
                for start in range(0, count, SHARD)
            ]
            for split, count in zip(examples.SPLITS, kind.images, strict=True)
        }

    def check_same_files(self, folder: pathlib.Path):
        """Raise a `UserError` if the prepared dataset shows other layouts than a folder holds."""
        prepared = (self.info.metadata or {}).get("layouts", {})
        if prepared != {path.name: file_digest(path) for path in self._layouts(folder)}:
            raise UserError(
                f"{self.data_dir} was drawn with other layouts than {folder} holds: remove it, or "
                "name another folder with --config.dataset.data_dir"
            )

    def _layouts(self, folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
        """Return the mask files of real layouts in a folder."""
        if self.builder_config.kind.photographs is None:
            raise UserError(
                f"{self.info.full_name} shows no real layouts: remove config.dataset.manual_dir"
            )
        return photograph_geometry.find_layouts(folder)

    def _shard(self, split: str, indices: list[int], layouts: tuple[pathlib.Path, ...]):
        # Encoded bytes, because TFDS encodes arrays with TensorFlow.
        draw = functools.partial(examples.encoded_example, self.builder_config.kind, split, layouts)
        with progress_bar(f"drawing {split}", len(indices), "image", disable=None) as bar:
            for example in workers.map_in_processes(draw, indices):
                yield example
                bar.update()
