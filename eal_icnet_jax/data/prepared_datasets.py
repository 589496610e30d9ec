"""Prepared TFDS datasets: prepared where they are missing, and read without TensorFlow."""

import bisect
import itertools
import os
import pathlib

from ml_collections import ConfigDict

from eal_icnet_jax.data.dataset_builders import data_digest, dataset_builder, unreadable
from eal_icnet_jax.data.paired_folders import IGNORE
from eal_icnet_jax.system.errors import UserError, os_error_cause
from eal_icnet_jax.system.files import cannot_be_read
from eal_icnet_jax.system.terminal import announce


def _training_datasets(dataset: ConfigDict) -> list[ConfigDict]:
    """Return the datasets of `train_on`, each as a `config.dataset` of its own."""
    members = []
    for full_name in dataset.train_on:
        member = dataset.copy_and_resolve_references()
        member.name, _, member.config = full_name.partition("/")
        member.train_on = ()
        if dataset.manual_dir:
            member.manual_dir = os.path.join(dataset.manual_dir, member.name)
        members.append(member)
    return members


def _test_dataset(dataset: ConfigDict) -> ConfigDict:
    """Return the dataset that is tested on as a `config.dataset` of its own."""
    member = dataset.copy_and_resolve_references()
    member.train_on = ()
    if dataset.train_on and dataset.manual_dir:
        member.manual_dir = os.path.join(dataset.manual_dir, dataset.name)
    return member


def _mixed_dataset(dataset: ConfigDict) -> ConfigDict:
    """Return the drawn dataset that is mixed in as a `config.dataset` of its own."""
    member = dataset.copy_and_resolve_references()
    member.name, _, member.config = dataset.mixed.partition("/")
    member.train_on, member.manual_dir, member.white, member.ignore_value = (), "", 0, -1
    member.splits.train = "train"
    return member


def _all_datasets(dataset: ConfigDict) -> list[ConfigDict]:
    """Return every dataset that a config trains or tests on."""
    mixed = [_mixed_dataset(dataset)] if dataset.mixed else []
    return [*_training_datasets(dataset), *mixed, _test_dataset(dataset)]


def prepare(dataset: ConfigDict):
    """Prepare a dataset, and those it trains on, where they are not prepared yet.

    Args:
      dataset: `config.dataset`.

    Raises:
      UserError: the data has to come from the user and `manual_dir` is not set or cannot be used,
        or the prepared files cannot be written.
    """
    for member in _all_datasets(dataset):
        member.prepare = True
        builder = _prepared_builder(member)
        announce(f"{builder.info.full_name} is prepared in {builder.data_dir}")


def digests(dataset: ConfigDict) -> dict[str, str]:
    """Return the digest of every prepared dataset that is trained or tested on, by full name."""
    builders = [dataset_builder(member) for member in _all_datasets(dataset)]
    return {
        builder.info.full_name: data_digest(pathlib.Path(builder.data_dir)) for builder in builders
    }


def _prepared_builder(dataset: ConfigDict):
    """Return the builder of one dataset, which is prepared if it was not and may be."""
    builder = dataset_builder(dataset)
    manual_dir = pathlib.Path(dataset.manual_dir).expanduser() if dataset.manual_dir else None
    _check_readable(builder.data_dir)
    _set_levels(builder, dataset.white, dataset.ignore_value)
    if builder.is_prepared():
        if manual_dir is not None:
            builder.check_same_files(manual_dir)
        return builder
    if not dataset.prepare:
        raise UserError(
            f"dataset {builder.info.full_name} is not prepared in {builder.data_dir}: run "
            "`eal-icnet prepare --config=...` with the same config first"
        )
    instructions = getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None)
    if instructions and manual_dir is None and not builder.DOWNLOADS:
        raise UserError(
            f"dataset {builder.info.full_name} is not prepared in {builder.data_dir}: "
            f"{instructions}, then run the same command with --config.dataset.manual_dir=DIR, or "
            f"cd datasets/{dataset.name} && tfds build --manual_dir=DIR --file_format=array_record"
        )
    _download_and_prepare(builder, manual_dir)
    builder = dataset_builder(dataset)
    _announce_splits(builder)
    return builder


def _set_levels(builder, white: int, ignore_value: int):
    """Give a builder the level of white of the config, 0 for none, and that of ignored pixels.

    Raises:
      UserError: its dataset is drawn, or was prepared with other levels.
    """
    if not hasattr(builder, "SOURCE"):
        if white or ignore_value >= 0:
            name = "white" if white else "ignore_value"
            raise UserError(
                f"dataset {builder.info.full_name} is drawn, so its levels are known: remove "
                f"config.dataset.{name}"
            )
        return
    builder.white, builder.ignore_value = white or None, ignore_value
    if not builder.is_prepared():
        return
    metadata = builder.info.metadata or {}
    if "ignore_value" not in metadata:
        raise UserError(
            f"{builder.data_dir} was prepared by an earlier version of this software: remove the "
            "folder, or name another one with --config.dataset.data_dir"
        )
    prepared = {"white": metadata.get("white") or 0, "ignore_value": metadata["ignore_value"]}
    for name, value in (("white", white), ("ignore_value", ignore_value)):
        if value != prepared[name]:
            raise UserError(
                f"{builder.data_dir} was prepared with config.dataset.{name}={prepared[name]}, and "
                f"now it is {value}: remove the folder, or name another one with "
                "--config.dataset.data_dir"
            )


def _check_readable(folder: str):
    """Raise a `UserError` if a folder exists but the system refuses to read it."""
    try:
        os.listdir(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_be_read(folder, error) from error


def _download_and_prepare(builder, manual_dir: pathlib.Path | None):
    from tensorflow_datasets import download

    config = download.DownloadConfig(manual_dir=os.fspath(manual_dir) if manual_dir else None)
    try:
        builder.download_and_prepare(download_config=config)
    except OSError as error:
        path = os.path.abspath(error.filename or builder.data_dir)
        if not pathlib.Path(path).is_relative_to(os.path.abspath(builder.data_dir_root)):
            raise cannot_be_read(path, error) from error
        raise UserError(
            f"{path} cannot be written: {os_error_cause(error)}; name another folder with "
            "--config.dataset.data_dir"
        ) from error


def _announce_splits(builder):
    """Print the size and the class balance of each split, if the builder recorded them."""
    for split, statistics in (builder.info.metadata or {}).get("splits", {}).items():
        balance = ", ".join(
            f"{label} {100 * fraction:.2f}%" for label, fraction in statistics["foreground"].items()
        )
        ignored = statistics["ignored"]
        announce(
            f"{split}: {statistics['examples']} examples of {statistics['files']} files, "
            f"{balance} of the pixels" + (f", {100 * ignored:.2f}% ignored" if ignored else "")
        )


class SplitRecords:
    """Random access to the examples of a prepared split, whose images are still encoded.

    Args:
      builder: of the prepared dataset.
      split: name or slice of a split, as TFDS understands it.

    Raises:
      UserError: a file is damaged or cannot be read. Reading a record raises it, too.
    """

    def __init__(self, builder, split: str):
        from tensorflow_datasets import decode

        self._name, self._folder = builder.info.full_name, os.fspath(builder.data_dir)
        decoders = {key: decode.SkipDecoding() for key in builder.info.features}
        try:
            self._source = builder.as_data_source(split=split, decoders=decoders)
            self._size = len(self._source)
        except (RuntimeError, ValueError, OSError) as error:
            raise unreadable(f"dataset {self._name}", self._folder, error) from error

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self._size:
            raise IndexError(index)
        try:
            return self._source[index]
        except Exception as error:  # any type, since damaged bytes are parsed in several libraries
            raise unreadable(f"record {index} of {self._name}", self._folder, error) from error


class ConcatenatedSource:
    """Random access to the examples of several sources, one after another."""

    def __init__(self, sources: list):
        self._sources = sources
        self._ends = list(itertools.accumulate(map(len, sources)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict:
        number = bisect.bisect_right(self._ends, index)
        start = self._ends[number - 1] if number else 0
        return self._sources[number][index - start]


class RepeatedSource:
    """Random access to a number of examples: those of a source, again and again.

    Args:
      source: of the examples.
      size: number of examples.
    """

    def __init__(self, source, size: int):
        self._source, self._size = source, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self._size:
            raise IndexError(index)
        return self._source[index % len(self._source)]


def open_training_examples(
    dataset: ConfigDict,
) -> SplitRecords | ConcatenatedSource | RepeatedSource:
    """Open the examples of an epoch: the training split, its views, and what is mixed in.

    Args:
      dataset: `config.dataset`.

    Raises:
      UserError: as `open_split`.
    """
    source = open_split(dataset, "train")
    if dataset.views > 1:
        source = RepeatedSource(source, dataset.views * len(source))
    if not dataset.mixed:
        return source
    drawn = _open_member(_mixed_dataset(dataset), "train")
    part = dataset.mixed_fraction
    return ConcatenatedSource(
        [source, RepeatedSource(drawn, round(len(source) * part / (1 - part)))]
    )


def open_split(dataset: ConfigDict, split: str) -> SplitRecords | ConcatenatedSource:
    """Open a split for random access to its examples, whose images are still encoded.

    Args:
      dataset: `config.dataset`. If `train_on` names datasets, every split but the test split comes
        from them.
      split: "train", "validation" or "test"; `dataset.splits` says what that is.

    Raises:
      UserError: a dataset cannot be prepared or read, lacks the split or a label, or the split is
        an empty slice.
    """
    if dataset.train_on and split != "test":
        members = _training_datasets(dataset)
        return ConcatenatedSource([_open_member(member, split) for member in members])
    return _open_member(_test_dataset(dataset), split)


def mask_names(builder) -> tuple[str, ...]:
    """Return the names of the masks that a prepared dataset has."""
    from tensorflow_datasets import features

    recorded = (builder.info.metadata or {}).get("labels")
    return (
        tuple(recorded)
        if recorded
        else tuple(
            name
            for name, feature in builder.info.features.items()
            if isinstance(feature, features.Image) and name not in ("image", IGNORE)
        )
    )


def _open_member(dataset: ConfigDict, split: str) -> SplitRecords:
    builder = _prepared_builder(dataset)
    info, part = builder.info, dataset.splits[split]
    try:
        examples = info.splits[part].num_examples
    except (KeyError, ValueError) as error:
        raise UserError(
            f"dataset {info.full_name} has no split {part!r}: it has {', '.join(info.splits)}, and "
            "slices of them such as 'train[:100]'"
        ) from error
    if not examples:
        sizes = ", ".join(f"{name} has {info.splits[name].num_examples}" for name in info.splits)
        raise UserError(
            f"config.dataset.splits.{split} is {part!r}, which holds no example of dataset "
            f"{info.full_name} ({sizes}): choose a larger slice"
        )
    labels = mask_names(builder)
    if missing := [name for name in dataset.labels if name not in labels]:
        raise UserError(
            f"dataset {info.full_name} has no label {', '.join(missing)}: it has "
            f"{', '.join(labels)}"
        )
    if not dataset.allow_empty_labels:
        _check_foreground(info, part, tuple(dataset.labels))
    return SplitRecords(builder, part)


def _check_foreground(info, part: str, labels: tuple[str, ...]):
    """Raise a `UserError` if a label has no foreground in all images of a split.

    A slice of a split is checked as the split that it is from.
    """
    recorded = (info.metadata or {}).get("splits", {})
    statistics = recorded.get(part.partition("[")[0], {}).get("foreground", {})
    empty = [label for label in labels if statistics.get(label) == 0]
    if empty:
        raise UserError(
            f"{' and '.join(empty)} has no foreground in any image of split {part} of dataset "
            f"{info.full_name}, so no figure of it would mean anything: look at the files with "
            "`eal-icnet inspect`, or allow it with --config.dataset.allow_empty_labels=True"
        )
