"""What the TFDS builders share: reading trees of images and labels, writing reproducibly."""

import collections
import contextlib
import functools
import pathlib
import shutil
import sys

import numpy as np
import tensorflow_datasets.public_api as tfds
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from eal_icnet_jax import images, parallel, trees
from eal_icnet_jax.errors import UserError, warn

SHARD_BYTES = 32 << 20
"""Of files that go into one shard; a shard's examples are in memory while it is written."""

Window = tuple[int, int, int, int]
"""Top, left, height and width."""


def progress(title: str, files: int) -> tqdm:
    """A bar on the standard error; where that is no terminal, a line every ten seconds."""
    every = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(desc=title, total=files, mininterval=every, unit="file")


def shards(pairs: tuple[trees.Pair, ...]) -> list[tuple[trees.Pair, ...]]:
    """Runs of pairs of about `SHARD_BYTES`."""
    out, size = [[]], 0
    for pair in pairs:
        if size >= SHARD_BYTES:
            out.append([])
            size = 0
        out[-1].append(pair)
        size += pair.image.stat().st_size
    return [tuple(run) for run in out]


class ReproducibleWriter(tfds.core.ExampleWriter):
    """Writes the same bytes for the same examples, where TFDS leaves the features' order open."""

    def write(self, path, examples):
        try:
            return super().write(path, ((key, self._ordered(data)) for key, data in examples))
        except RuntimeError as error:  # how array_record tells of a full disk
            told = str(error).partition(";")[0]
            raise UserError(
                f"{path} cannot be written: {told}; make room, or name another folder with "
                "--config.dataset.data_dir"
            ) from error

    @staticmethod
    def _ordered(data: bytes) -> bytes:
        return tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True)


class TreeBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """A builder that its dataset need only tell what is particular to it.

    Features: image, the masks of `SOURCE.labels` (0 and 255) and name, images as PNG. Records keep
    the order of the names. `info.metadata` holds each split's number of files and examples, the
    digest of its names and each mask's fraction of foreground, and the number of skipped images.

    Attributes:
      SOURCE: how its files lie and are read.
      LICENSE: of its images and labels.
      MANUAL_DOWNLOAD_INSTRUCTIONS: where the data comes from, and how to lay it out.
      DOWNLOADS: whether it can be had without a tree from the user.
    """

    SOURCE: trees.Source
    LICENSE: str
    DOWNLOADS = False

    def _info(self) -> tfds.core.DatasetInfo:
        def image(channels):
            return tfds.features.Image(shape=(None, None, channels), encoding_format="png")

        features = {
            "image": image(self.SOURCE.channels),
            **{label: image(1) for label in self.SOURCE.labels},
            "name": tfds.features.Text(),
            **self.more_features(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            license=self.LICENSE,
            metadata=tfds.core.MetadataDict(),
        )

    def more_features(self) -> dict:
        """Features beside image, masks and name."""
        return {}

    def windows(self, height: int, width: int) -> list[Window]:
        """The parts of an image that are examples of their own."""
        return [(0, 0, height, width)]

    def identity(self, name: str, window: Window) -> dict:
        """The name of an example, and the values of `more_features`."""
        del window
        return {"name": name}

    def root(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        """The tree: what the user named, else TFDS's place for it."""
        return self.manual_dir or dl_manager.manual_dir

    def download_and_prepare(self, **arguments):
        """As TFDS has it; a bad tree leaves no empty folders behind."""
        version_dir = pathlib.Path(self.data_dir)
        dataset_dir = pathlib.Path(self.data_dir_root) / self.name
        downloads = pathlib.Path(self.data_dir_root) / "downloads"
        made = [
            path
            for path in (downloads / "extracted", downloads, *version_dir.parents)
            if not path.exists()
        ]
        configs_were_there = (dataset_dir / ".config").exists()
        try:
            super().download_and_prepare(**arguments)
        except BaseException as error:
            if not configs_were_there:
                shutil.rmtree(dataset_dir / ".config", ignore_errors=True)
            for path in made:
                with contextlib.suppress(OSError):
                    path.rmdir()
            by_tfds_command = pathlib.Path(sys.argv[0]).stem == "tfds"
            if isinstance(error, UserError) and by_tfds_command:
                raise SystemExit(f"error: {error}") from error  # it would print a traceback
            raise

    def _download_and_prepare(self, dl_manager, download_config=None):
        given = download_config.manual_dir if download_config else None
        self.manual_dir = pathlib.Path(given).expanduser() if given else None
        super()._download_and_prepare(dl_manager, download_config)

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return ReproducibleWriter(self.info.file_format)

    def _shard_iterators_per_split(self, dl_manager):
        tree = trees.read_tree(self.root(dl_manager), self.SOURCE.layouts)
        if tree.skipped:
            warn(f"{tree.skipped} images without a label are skipped")
        self.info.metadata["skipped"] = tree.skipped
        self.info.metadata["splits"] = {
            split: {
                "files": len(pairs),
                "examples": 0,
                "names_sha256": trees.names_digest(pair.name for pair in pairs),
                "foreground": dict.fromkeys(self.SOURCE.labels, 0.0),
            }
            for split, pairs in tree.splits.items()
        }
        return {split: self._shards(split, pairs) for split, pairs in tree.splits.items()}

    def _shards(self, split: str, pairs: tuple[trees.Pair, ...]) -> list:
        tally = _Tally(f"{self.name} {split}", len(pairs))
        return [
            functools.partial(self._shard, self.info.metadata["splits"][split], tally, run)
            for run in shards(pairs)
        ]

    def _shard(self, metadata: dict, tally: "_Tally", pairs: tuple[trees.Pair, ...]):
        try:
            for pair, (examples, counts, pixels, two_levels) in zip(
                pairs, parallel.in_threads(self._encode, pairs), strict=True
            ):
                yield from ((example["name"], example) for example in examples)
                tally.add(pair, counts, pixels, two_levels)
                metadata["examples"] += len(examples)
                metadata["foreground"] = tally.fractions()
        except UserError:
            tally.end()
            raise

    def _encode(self, pair: trees.Pair) -> tuple[list[dict], dict[str, int], int, bool]:
        """A pair's examples with PNG bytes, and their foreground pixels, pixels and levels."""
        image, masks, two_levels = self.SOURCE.read(pair)
        examples, counts, pixels = [], dict.fromkeys(masks, 0), 0
        for window in self.windows(*image.shape[:2]):
            top, left, height, width = window
            part = (slice(top, top + height), slice(left, left + width))
            example = {"image": images.encode(image[part]), **self.identity(pair.name, window)}
            for label, mask in masks.items():
                example[label] = images.encode(255 * mask[part].astype(np.uint8))
                counts[label] += int(mask[part].sum())
            pixels += height * width
            examples.append(example)
        return examples, counts, pixels, two_levels


class _Tally:
    """Progress and class balance of a split, over its shards."""

    def __init__(self, title: str, files: int):
        self._title, self._files = title, files
        self._bar = None
        self._counts: collections.Counter = collections.Counter()
        self._pixels = 0
        self._grey: list[pathlib.Path] = []

    def add(self, pair: trees.Pair, counts: dict[str, int], pixels: int, two_levels: bool):
        if self._bar is None:
            self._bar = progress(self._title, self._files)
        self._bar.update()
        self._counts.update(counts)
        self._pixels += pixels
        if not two_levels:
            self._grey.append(pair.label)
        if self._bar.n == self._files:
            self.end()

    def end(self):
        """Closes the line of progress, and tells what the labels were like."""
        if self._bar is not None:
            self._bar.close()
        if self._grey:
            warn(
                f"{len(self._grey)} labels have more than two levels and were thresholded at 128, "
                f"the first is {self._grey[0]}"
            )

    def fractions(self) -> dict[str, float]:
        return {label: count / self._pixels for label, count in self._counts.items()}
