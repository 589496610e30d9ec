"""What the TFDS builders share: one preparation at a time, paired folders, reproducible files."""

import collections
import contextlib
import functools
import io
import pathlib
import shutil
import sys
from collections.abc import Iterable

import numpy as np
import tensorflow_datasets.public_api as tfds
from tensorflow_datasets.core import constants
from tensorflow_datasets.proto import tf_example_pb2

from eal_icnet_jax.data import paired_folders
from eal_icnet_jax.data.dataset_builders import file_digest, lines_digest
from eal_icnet_jax.data.preparation_lock import preparation_lock
from eal_icnet_jax.imaging import png
from eal_icnet_jax.system import files, workers
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read
from eal_icnet_jax.system.terminal import announce, progress_bar, warn

SHARD_BYTES = 32 << 20
"""Size of the image files in one shard, in bytes. All examples of a shard are in memory at once."""

FURTHER_MASKS = paired_folders.VIAS, paired_folders.IGNORE
"""Features of masks that every dataset of folders has; they may be empty."""

Pairs = tuple[paired_folders.Pair, ...]

Window = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image, in pixels."""


def split_into_shards(pairs: Pairs) -> list[Pairs]:
    """Split pairs into consecutive runs of about `SHARD_BYTES`."""
    runs, size = [[]], 0
    for pair in pairs:
        if size >= SHARD_BYTES:
            runs.append([])
            size = 0
        runs[-1].append(pair)
        size += pair.image.stat().st_size
    return [tuple(run) for run in runs]


@functools.cache
def _known_digest(path: pathlib.Path, size: int, modified_ns: int) -> str:
    """Return the SHA-256 of a file, which is read again only when its size or time has changed."""
    del size, modified_ns
    return file_digest(path)


def _digest_of(path: pathlib.Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise cannot_be_read(path, error) from error
    return _known_digest(path, status.st_size, status.st_mtime_ns)


def files_digest(pairs: Pairs) -> str:
    """Return the SHA-256 of the names of pairs and of what their files hold.

    Raises:
      UserError: a file cannot be read.
    """
    paths = [path for pair in pairs for path in pair.files]
    names = [pair.name for pair in pairs for _ in pair.files]
    digests = workers.map_in_threads(_digest_of, paths)  # every split that is opened asks for them
    return lines_digest(f"{digest} {name}\n" for digest, name in zip(digests, names, strict=True))


class ReproducibleWriter(tfds.core.ExampleWriter):
    """Writes the same bytes for the same examples. TFDS leaves the order of features open."""

    def write(self, path, examples):
        try:
            return super().write(path, ((key, self._ordered(data)) for key, data in examples))
        except RuntimeError as error:  # array_record reports a full disk in this way
            reason = str(error).partition(";")[0]
            raise UserError(
                f"{path} cannot be written: {reason}; make room, or name another folder with "
                "--config.dataset.data_dir"
            ) from error

    @staticmethod
    def _ordered(data: bytes) -> bytes:
        return tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True)


class ReproducibleBuilder:
    """Mixin of all builders: the same files from the same data, by one process at a time.

    Attributes:
      manual_dir: the user's folder while the dataset is prepared, or None.
    """

    manual_dir: pathlib.Path | None = None

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return ReproducibleWriter(self.info.file_format)

    def download_and_prepare(self, **arguments):
        """Prepare the dataset unless it is prepared, as TFDS does, under its lock.

        If another process prepares it, wait for that. What killed processes left is removed.

        Raises:
          OSError: the lock or a file cannot be written.
        """
        folder = pathlib.Path(self.data_dir)
        with preparation_lock(folder):
            for leftover in folder.parent.glob(f"{constants.INCOMPLETE_PREFIX}*_{folder.name}"):
                shutil.rmtree(leftover)
            if not self.is_prepared():
                announce(f"preparing {self.info.full_name} in {folder}")
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints sizes as "Unknown"
                self._prepare_locked(**arguments)
            files.flush(folder)

    def check_same_files(self, folder: pathlib.Path):
        """Check that the prepared dataset was prepared from what a user's folder holds now.

        Raises:
          UserError: it was prepared from other files.
        """

    def _prepare_locked(self, **arguments):
        super().download_and_prepare(**arguments)

    def _download_and_prepare(self, dl_manager, download_config=None):
        manual_dir = download_config.manual_dir if download_config else None
        self.manual_dir = pathlib.Path(manual_dir).expanduser() if manual_dir else None
        super()._download_and_prepare(dl_manager, download_config)


class PairedFolderBuilder(ReproducibleBuilder, tfds.core.ShardBasedBuilder, skip_registration=True):
    """Base class of builders that read folders of images and labels.

    Features: `image`, the masks of `SOURCE.labels`, of the vias and of the ignored pixels (0 and
    255) and `name`, images as PNG. Records are in the order of the names. `info.metadata` holds the
    names of the masks that files hold, each split's number of files and examples, the digest of its
    files, each mask's fraction of foreground and the fraction of ignored pixels, and the number of
    skipped images. A mask that no file holds is empty.

    Attributes:
      SOURCE: form of its files.
      LICENSE: of its images and labels.
      MANUAL_DOWNLOAD_INSTRUCTIONS: where the data comes from, and how to lay it out.
      DOWNLOADS: whether it can be prepared without a folder from the user.
      white: level of white of the images, to be set before preparation; None for what each file
        states, or else what all images of 16 bits together show.
      unstated_white: that level, once it is decided.
      ignore_value: level of the label's pixels that do not count, to be set before preparation;
        below 0 for none.
    """

    SOURCE: paired_folders.SourceFormat
    LICENSE: str
    DOWNLOADS = False
    white: int | None = None
    unstated_white: int | None = None
    ignore_value: int = -1

    def _info(self) -> tfds.core.DatasetInfo:
        def image(channels):
            return tfds.features.Image(shape=(None, None, channels), encoding_format="png")

        features = {
            "image": image(self.SOURCE.channels),
            **{label: image(1) for label in dict.fromkeys((*self.SOURCE.labels, *FURTHER_MASKS))},
            "name": tfds.features.Text(),
            **self.extra_features(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            license=self.LICENSE,
            metadata=tfds.core.MetadataDict(),
        )

    def extra_features(self) -> dict:
        """Return the features besides image, masks and name."""
        return {}

    def check_same_files(self, folder: pathlib.Path):
        """Check that a folder, if it still exists, holds the files that it held, in their splits.

        Raises:
          UserError: it holds other files, or splits them in another way.
        """
        if not folder.is_dir():
            return
        prepared = {
            split: record.get("files_sha256")
            for split, record in self.info.metadata["splits"].items()
        }
        found = paired_folders.find_split_pairs(folder, self.SOURCE.layouts).splits
        current = {split: files_digest(pairs) for split, pairs in found.items()}
        if current != prepared:
            raise UserError(
                f"{self.data_dir} was prepared from other files than {folder} holds now: "
                "remove it, or name another folder with --config.dataset.data_dir"
            )

    def windows(self, height: int, width: int) -> list[Window]:
        """Return the parts of an image that become one example each."""
        return [(0, 0, height, width)]

    def window_values(self, name: str, window: Window) -> dict:
        """Return the name of a window's example, and the values of `extra_features`."""
        del window
        return {"name": name}

    def source_folder(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        """Return the folder of images and labels: the user's, or else TFDS's place for it."""
        return self.manual_dir or dl_manager.manual_dir

    def _prepare_locked(self, **arguments):
        """Prepare the dataset. An error leaves no empty folders behind."""
        config_folder = pathlib.Path(self.data_dir_root) / self.name / ".config"
        downloads = pathlib.Path(self.data_dir_root) / "downloads"
        config_folder_existed = config_folder.exists()
        missing = [path for path in (downloads / "extracted", downloads) if not path.exists()]
        try:
            super()._prepare_locked(**arguments)
        except BaseException as error:
            if not config_folder_existed:
                shutil.rmtree(config_folder, ignore_errors=True)
            for folder in missing:
                with contextlib.suppress(OSError):  # it holds something
                    folder.rmdir()
            is_tfds_command = pathlib.Path(sys.argv[0]).stem == "tfds"
            if isinstance(error, UserError) and is_tfds_command:
                raise SystemExit(f"error: {error}") from error  # it would print a traceback
            raise

    def _shard_iterators_per_split(self, dl_manager):
        found = paired_folders.find_split_pairs(self.source_folder(dl_manager), self.SOURCE.layouts)
        if found.skipped:
            warn(f"{found.skipped} images without a label are skipped")
        if self.white is None:
            self.unstated_white = paired_folders.common_white(
                pair.image for pairs in found.splits.values() for pair in pairs
            )
        self.info.metadata["white"] = self.white
        self.info.metadata["unstated_white"] = self.unstated_white
        self.info.metadata["ignore_value"] = self.ignore_value
        self.info.metadata["skipped"] = found.skipped
        labels = self._labels(found)
        self.info.metadata["labels"] = list(labels)
        self.info.metadata["splits"] = {
            split: {
                "files": len(pairs),
                "examples": 0,
                "files_sha256": files_digest(pairs),
                "foreground": dict.fromkeys(labels, 0.0),
                "ignored": 0.0,
            }
            for split, pairs in found.splits.items()
        }
        return {split: self._shards(split, pairs) for split, pairs in found.splits.items()}

    def _labels(self, found: paired_folders.SplitPairs) -> tuple[str, ...]:
        """Return the names of the masks that files hold.

        Raises:
          UserError: some splits have vias, and others have none.
        """
        with_vias = {
            split: any(pair.via for pair in pairs) for split, pairs in found.splits.items() if pairs
        }
        if len(set(with_vias.values())) > 1:
            lacking = " and ".join(split for split, has in with_vias.items() if not has)
            raise UserError(
                f"{lacking} has no folder {paired_folders.VIAS}, and other splits have one: add "
                "it, or remove the others"
            )
        vias = (paired_folders.VIAS,) if any(with_vias.values()) else ()
        return tuple(dict.fromkeys((*self.SOURCE.labels, *vias)))

    def _shards(self, split: str, pairs: Pairs) -> list:
        labels = self.info.metadata["labels"]
        tally = _SplitTally(f"{self.name} {split}", len(pairs), labels)
        return [
            functools.partial(self._shard, self.info.metadata["splits"][split], tally, run)
            for run in split_into_shards(pairs)
        ]

    def _shard(self, metadata: dict, tally: "_SplitTally", pairs: Pairs):
        try:
            for pair, (examples, counts, pixels, content) in zip(
                pairs, workers.map_in_threads(self._encode, pairs), strict=True
            ):
                yield from ((example["name"], example) for example in examples)
                tally.add(pair, counts, pixels, content)
                metadata["examples"] += len(examples)
                metadata["foreground"] = tally.fractions()
                metadata["ignored"] = tally.ignored()
        except Exception:
            tally.end()
            raise

    def _encode(
        self, pair: paired_folders.Pair
    ) -> tuple[list[dict], dict[str, int], int, paired_folders.Content]:
        """Encode the examples of a pair. Windows that are ignored everywhere are left out.

        Returns:
          The examples with PNG bytes, the number of ignored pixels and of foreground by label, the
          number of all pixels, and what was read.
        """
        content = self.SOURCE.read(pair, self.white, self.unstated_white, self.ignore_value)
        image, masks = content.image, {**content.masks, paired_folders.IGNORE: content.ignored}
        missing = {paired_folders.VIAS} - set(masks)
        masks |= {name: np.zeros(image.shape[:2], bool) for name in missing}
        examples, counts, pixels = [], dict.fromkeys(masks, 0), 0
        for window in self.windows(*image.shape[:2]):
            top, left, height, width = window
            part = (slice(top, top + height), slice(left, left + width))
            if content.ignored[part].all():
                continue
            example = {"image": png.encode(image[part]), **self.window_values(pair.name, window)}
            for label, mask in masks.items():
                example[label] = png.encode(255 * mask[part].astype(np.uint8))
                counts[label] += int(mask[part].sum())
            pixels += height * width
            examples.append(example)
        return examples, counts, pixels, content


class _SplitTally:
    """Progress and class balance of a split while its shards are written."""

    def __init__(self, title: str, files: int, labels: Iterable[str]):
        self._title, self._files, self._labels = title, files, tuple(labels)
        self._bar = None
        self._counts: collections.Counter = collections.Counter()
        self._pixels = 0
        self._notes: dict[str, list[pathlib.Path]] = {}

    def add(
        self,
        pair: paired_folders.Pair,
        counts: dict[str, int],
        pixels: int,
        content: paired_folders.Content,
    ):
        """Count a pair that was written."""
        if self._bar is None:
            self._bar = progress_bar(self._title, self._files, "file")
        self._bar.update()
        self._counts.update(counts)
        self._pixels += pixels
        for path, notes in ((pair.image, content.image_notes), (pair.label, content.label_notes)):
            for note in notes:
                self._notes.setdefault(note, []).append(path)
        if self._bar.n == self._files:
            self.end()

    def end(self):
        """Close the progress bar, and report what the files are like, each note once."""
        if self._bar is not None:
            self._bar.close()
        for note, paths in self._notes.items():
            others = f" (and {len(paths) - 1} other files)" if len(paths) > 1 else ""
            warn(f"{paths[0]}{others}: {note}")
        self._notes.clear()

    def fractions(self) -> dict[str, float]:
        """Return the fraction of foreground of each label so far, of the pixels that count."""
        counted = max(self._pixels - self._counts[paired_folders.IGNORE], 1)
        return {
            label: count / counted for label, count in self._counts.items() if label in self._labels
        }

    def ignored(self) -> float:
        """Return the fraction of ignored pixels so far."""
        return self._counts[paired_folders.IGNORE] / max(self._pixels, 1)
