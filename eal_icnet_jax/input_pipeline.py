"""Prepared TFDS datasets to batches on the devices, through Grain and without TensorFlow."""

import bisect
import collections
import contextlib
import dataclasses
import hashlib
import importlib
import io
import itertools
import json
import os
import pathlib
import pkgutil
import tempfile
from collections.abc import Iterator

import filelock
import grain
import jax
import numpy as np
from absl import flags
from google.protobuf import json_format
from ml_collections import ConfigDict

from eal_icnet_jax import files, images, provenance, trees
from eal_icnet_jax.distributed import ALONE, Processes
from eal_icnet_jax.errors import UserError, end_with_parent, warn

Batch = dict[str, jax.Array]


def dataset_names() -> list[str]:
    package = importlib.import_module("eal_icnet_jax.datasets")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)


def dataset_builder(dataset: ConfigDict):
    """The TFDS builder of `config.dataset`.

    Raises:
      UserError: the dataset or its builder config is unknown.
    """
    if dataset.name not in dataset_names():
        raise UserError(
            f"unknown dataset {dataset.name!r}: choose one of {', '.join(dataset_names())}"
        )
    module = importlib.import_module(
        f"eal_icnet_jax.datasets.{dataset.name}.{dataset.name}_dataset_builder"
    )
    configs = [config.name for config in module.Builder.BUILDER_CONFIGS]
    if dataset.config and dataset.config not in configs:
        known = f"choose one of {', '.join(configs)}" if configs else "leave it empty"
        raise UserError(f"dataset {dataset.name} has no config {dataset.config!r}: {known}")
    data_dir = os.path.expanduser(dataset.data_dir) or None
    try:
        return module.Builder(
            config=dataset.config or None, data_dir=data_dir, file_format="array_record"
        )
    except (ValueError, json_format.ParseError) as error:
        where = dataset.data_dir or "~/tensorflow_datasets"
        if "File format is already set" in str(error):
            raise UserError(
                f"dataset {dataset.name} in {where} is not of array_record files: build it with "
                "--file_format=array_record, in another folder"
            ) from error
        raise _damaged(f"the description of dataset {dataset.name}", where, error) from error


def _damaged(what: str, where: os.PathLike | str, error: Exception) -> UserError:
    told = next(iter(str(error).splitlines()), type(error).__name__)[:200]
    return UserError(
        f"{what} cannot be read in {where} ({told}): the files there are damaged, remove them and "
        "run the same command again, which prepares them anew"
    )


def _members(dataset: ConfigDict) -> list[ConfigDict]:
    """The datasets of `train_on`, each as a `config.dataset` of its own."""
    members = []
    for full_name in dataset.train_on:
        member = dataset.copy_and_resolve_references()
        member.name, _, member.config = full_name.partition("/")
        member.train_on = ()
        if dataset.manual_dir:
            member.manual_dir = os.path.join(dataset.manual_dir, member.name)
        members.append(member)
    return members


def _tested(dataset: ConfigDict) -> ConfigDict:
    """The dataset that is tested on, as a `config.dataset` of its own."""
    alone = dataset.copy_and_resolve_references()
    alone.train_on = ()
    if dataset.train_on and dataset.manual_dir:
        alone.manual_dir = os.path.join(dataset.manual_dir, dataset.name)
    return alone


def prepare(dataset: ConfigDict):
    """Generates the files of a dataset, and of those it trains on, where they are missing.

    Raises:
      UserError: the data has to come from the user and `manual_dir` is not set, or is bad.
    """
    for member in (*_members(dataset), _tested(dataset)):
        member.prepare = True
        builder = _prepared(member)
        print(f"{builder.info.full_name} is prepared in {builder.data_dir}", flush=True)


def digests(dataset: ConfigDict) -> dict[str, str]:
    """The digest of every prepared dataset that is trained or tested on, by its full name."""
    builders = [dataset_builder(member) for member in (*_members(dataset), _tested(dataset))]
    return {
        builder.info.full_name: provenance.data_digest(pathlib.Path(builder.data_dir))
        for builder in builders
    }


def _prepared(dataset: ConfigDict):
    """The builder of one dataset, prepared."""
    from tensorflow_datasets import download

    builder = dataset_builder(dataset)
    manual_dir = pathlib.Path(dataset.manual_dir).expanduser() if dataset.manual_dir else None
    if builder.is_prepared():
        _check_same_tree(builder, manual_dir)
        return builder
    if not dataset.prepare:
        raise UserError(
            f"dataset {builder.info.full_name} is not prepared in {builder.data_dir}: run "
            "`python -m eal_icnet_jax.main` with the same config and --mode=prepare first"
        )
    instructions = getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None)
    if instructions and manual_dir is None and not builder.DOWNLOADS:
        raise UserError(
            f"dataset {builder.info.full_name} is not prepared in {builder.data_dir}: "
            f"{instructions}, then run the same command with --config.dataset.manual_dir=DIR, or "
            f"cd datasets/{dataset.name} && tfds build --manual_dir=DIR --file_format=array_record"
        )
    try:
        with filelock.FileLock(_lock_of(builder)):  # another process on this machine waits
            if not dataset_builder(dataset).is_prepared():
                print(f"preparing {builder.info.full_name} in {builder.data_dir}", flush=True)
                with contextlib.redirect_stdout(io.StringIO()):  # TFDS's lines, which know no size
                    builder.download_and_prepare(
                        download_config=download.DownloadConfig(
                            manual_dir=os.fspath(manual_dir) if manual_dir else None
                        )
                    )
                files.flush(pathlib.Path(builder.data_dir))
    except OSError as error:
        raise UserError(
            f"{builder.data_dir} cannot be written: {error.strerror or error}; "
            "name another folder with --config.dataset.data_dir"
        ) from error
    builder = dataset_builder(dataset)
    for split, own in (builder.info.metadata or {}).get("splits", {}).items():
        balance = ", ".join(
            f"{label} {100 * own['foreground'][label]:.2f}%" for label in own["foreground"]
        )
        print(
            f"{split}: {own['examples']} examples of {own['files']} files, {balance} of the pixels"
        )
    return builder


def _lock_of(builder) -> pathlib.Path:
    """A file of this machine for who prepares a dataset; nothing is left beside a bad one."""
    name = hashlib.sha256(os.path.abspath(builder.data_dir).encode()).hexdigest()[:16]
    return pathlib.Path(tempfile.gettempdir()) / f"eal_icnet_jax_{name}.lock"


def _check_same_tree(builder, manual_dir: pathlib.Path | None):
    """Prepared data is that of the tree which the user names, where it is still there.

    Raises:
      UserError: the tree holds other names, or splits them in another way.
    """
    source = getattr(builder, "SOURCE", None)
    if source is None or manual_dir is None or not manual_dir.is_dir():
        return
    tree = trees.read_tree(manual_dir, source.layouts)
    prepared = builder.info.metadata["splits"]
    for split, pairs in tree.splits.items():
        if trees.names_digest(pair.name for pair in pairs) != prepared[split]["names_sha256"]:
            raise UserError(
                f"{builder.data_dir} was prepared from other files than {manual_dir} holds now: "
                "remove it, or name another folder with --config.dataset.data_dir"
            )


class Records:
    """Random access to the examples of a prepared split.

    Raises:
      UserError: what is asked for cannot be read, as its file is damaged.
    """

    def __init__(self, builder, split: str, decoders: dict):
        self._what, self._where = builder.info.full_name, os.fspath(builder.data_dir)
        try:
            self._source = builder.as_data_source(split=split, decoders=decoders)
            self._size = len(self._source)
        except (RuntimeError, ValueError, OSError) as error:
            raise _damaged(f"dataset {self._what}", self._where, error) from error

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int):
        if not 0 <= index < self._size:
            raise IndexError(index)
        try:
            return self._source[index]
        except Exception as error:  # ArrayRecord's, and of whatever stands in its place
            raise _damaged(f"record {index} of {self._what}", self._where, error) from error


class Several:
    """Random access to the examples of several sources, one after another."""

    def __init__(self, sources: list):
        self._sources = sources
        self._ends = list(itertools.accumulate(map(len, sources)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int):
        which = bisect.bisect_right(self._ends, index)
        return self._sources[which][index - ([0, *self._ends][which])]


def open_split(dataset: ConfigDict, split: str):
    """Random access to a split's examples, images still encoded.

    `split` is "train", "validation" or "test"; `dataset.splits` says what that is. Where `train_on`
    names datasets, every split but the test split is theirs.

    Raises:
      UserError: a dataset cannot be prepared, or lacks the split or a label.
    """
    if dataset.train_on and split != "test":
        return Several([_open(member, split) for member in _members(dataset)])
    return _open(_tested(dataset), split)


def _open(dataset: ConfigDict, split: str):
    builder = _prepared(dataset)
    part = dataset.splits[split]
    try:
        builder.info.splits[part]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"dataset {builder.info.full_name} has no split {part!r}: it has "
            f"{', '.join(builder.info.splits)}, and slices of them such as 'train[:100]'"
        ) from error
    if missing := [name for name in dataset.labels if name not in builder.info.features]:
        raise UserError(
            f"dataset {builder.info.full_name} has no label {', '.join(missing)}: its features "
            f"are {', '.join(builder.info.features)}"
        )
    from tensorflow_datasets import decode

    encoded = {key: decode.SkipDecoding() for key in ("image", *dataset.labels)}
    return Records(builder, part, encoded)


@dataclasses.dataclass(frozen=True)
class Decode:
    """Encoded example to image `[H, W, C]` float32, label `[H, W, L]` bool, and name."""

    channels: int
    labels: tuple[str, ...]

    def __call__(self, example: dict) -> dict:
        name = example["name"].decode()
        image = images.decode(example["image"], f"image {name}")
        masks = []
        for feature in self.labels:
            mask, two_levels = images.to_mask(images.decode(example[feature], f"label {name}"))
            if mask.shape != image.shape[:2]:
                raise UserError(
                    f"{feature} of {name} is {mask.shape[0]}x{mask.shape[1]}, its image "
                    f"{image.shape[0]}x{image.shape[1]}: make them one size"
                )
            if not two_levels:
                warn(f"{feature} of {name} has more than two levels: thresholded at 128")
            masks.append(mask)
        return {
            "image": images.to_unit_range(image, self.channels),
            "label": np.stack(masks, -1),
            "name": name,
        }


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """The same random square out of image and label."""

    size: int

    def __call__(self, example: dict, rng: np.random.Generator) -> dict:
        height, width = example["image"].shape[:2]
        if min(height, width) < self.size:
            raise UserError(
                f"image {example['name']} is {height}x{width}, smaller than the crop: lower "
                f"config.dataset.crop_size from {self.size}"
            )
        top, left = rng.integers(0, height - self.size + 1), rng.integers(0, width - self.size + 1)
        window = (slice(top, top + self.size), slice(left, left + self.size))
        return {**example, "image": example["image"][window], "label": example["label"][window]}


@dataclasses.dataclass(frozen=True)
class Augment:
    """The random changes of `config.augmentation`."""

    flip: bool
    rotate: bool
    brightness: float
    contrast: float

    def __call__(self, example: dict, rng: np.random.Generator) -> dict:
        image, label = example["image"], example["label"]
        if self.flip:
            axes = [axis for axis in (0, 1) if rng.random() < 0.5]
            image, label = np.flip(image, axes), np.flip(label, axes)
        if self.rotate:
            if image.shape[0] != image.shape[1]:
                raise UserError(
                    f"image {example['name']} is {image.shape[0]}x{image.shape[1]}, and only "
                    "squares can be turned: set config.augmentation.rotate=False or a crop_size"
                )
            turns = int(rng.integers(4))
            image, label = np.rot90(image, turns), np.rot90(label, turns)
        if self.contrast:
            mean = image.mean()
            image = (image - mean) * np.float32(1 + rng.uniform(-1, 1) * self.contrast) + mean
        if self.brightness:
            image = image + np.float32(rng.uniform(-1, 1) * self.brightness)
        if self.contrast or self.brightness:
            image = np.clip(image, 0, 1)
        return {
            **example,
            "image": np.ascontiguousarray(image, np.float32),
            "label": np.ascontiguousarray(label),
        }


def _stack(examples: list[dict]) -> dict[str, np.ndarray]:
    shapes = {example["image"].shape[:2] for example in examples}
    if len(shapes) > 1:
        sizes = " and ".join(f"{height}x{width}" for height, width in sorted(shapes))
        raise UserError(
            f"images of {sizes} cannot share a batch: set config.dataset.crop_size, or "
            "config.batch_size to the number of devices"
        )
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


class TrainingBatches:
    """Endless-looking batches of a seeded run, whose position can be saved and set.

    Each epoch is a permutation of its own. The batch at a position depends on the seed alone, not
    on workers or on where reading began; every process reads its own part of it, and the parts in
    turn are the batch of one process, image by image: dropout draws for the place in a batch.

    Args:
      config: of the run.
      source: of the training split.
      processes: that share every batch.
    """

    def __init__(self, config: ConfigDict, source, processes: Processes = ALONE):
        if config.batch_size % jax.device_count():
            raise UserError(
                f"config.batch_size is {config.batch_size}, which {jax.device_count()} devices "
                "cannot share equally: choose a multiple"
            )
        if config.batch_size > len(source):
            raise UserError(
                f"config.batch_size is {config.batch_size}, more than the {len(source)} training "
                "images: lower it"
            )
        decode = Decode(config.model.in_channels, tuple(config.dataset.labels))
        self.batches_per_epoch = len(source) // config.batch_size

        def shuffled(number: int) -> grain.MapDataset:
            seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
            return grain.MapDataset.source(source).seed(seed).shuffle()

        def epoch(number: int) -> grain.MapDataset:
            dataset = shuffled(number).map(decode)
            if config.dataset.crop_size:
                dataset = dataset.random_map(RandomCrop(config.dataset.crop_size))
            dataset = dataset.random_map(Augment(**config.augmentation))
            dataset = dataset.map(lambda example: {k: example[k] for k in ("image", "label")})
            dataset = dataset[: self.batches_per_epoch * config.batch_size]
            size = config.batch_size // processes.count
            if processes.count > 1:
                places = range(processes.index * size, (processes.index + 1) * size)
                dataset = grain.MapDataset.mix([dataset[k :: config.batch_size] for k in places])
            return dataset.batch(size, drop_remainder=True, batch_fn=_stack)

        self._dataset = grain.MapDataset.concatenate([epoch(k) for k in range(config.epochs)])
        self._shuffled, self._size = shuffled, config.batch_size
        self._workers = config.workers
        self._position = 0
        data = config.dataset
        where = tuple(data.train_on) or (data.name, data.config)
        what = (*where, tuple(data.labels), data.crop_size, len(source))
        identity = (*what, config.seed, config.batch_size)
        self._identity = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

    def names(self, batch: int) -> list[str]:
        """The images of a batch of all processes, counted from the start of the training."""
        epoch, k = divmod(batch, self.batches_per_epoch)
        order = self._shuffled(epoch)
        return [order[k * self._size + i]["name"].decode() for i in range(self._size)]

    def get_state(self) -> dict:
        """The position, of JSON types."""
        return {"next_batch": self._position, "data": self._identity}

    def set_state(self, state: dict):
        if state["data"] != self._identity:
            raise UserError(
                "the checkpoint was trained on other data, or with another seed or batch size: "
                "use a new --workdir"
            )
        self._position = state["next_batch"]

    def __iter__(self) -> Iterator[tuple[dict[str, np.ndarray], dict]]:
        """Yields a batch of this process, and the state from which the next one follows."""
        rest = self._dataset[self._position :]
        if self._workers:
            if not flags.FLAGS.is_parsed():  # Grain's workers read flags, also outside commands.
                flags.FLAGS.mark_as_parsed()
            # What they share when they are stopped is given back, which need not be told.
            os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
            options = grain.MultiprocessingOptions(num_workers=self._workers)
            batches = rest.to_iter_dataset(grain.ReadOptions(num_threads=1))
            batches = batches.mp_prefetch(options, worker_init_fn=_begin_reading)
        else:
            batches = rest.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8))
        try:
            for batch in batches:
                self._position += 1
                yield batch, self.get_state()
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise UserError(
                f"one of the {self._workers} processes that read images was killed, perhaps as "
                "memory ran out: lower config.workers, and run the same command again, which goes "
                "on from the last checkpoint"
            ) from error


def _begin_reading(index: int, count: int):
    """In a worker, which Grain would leave behind where its trainer is killed."""
    del index, count
    end_with_parent()


def to_devices(batches, sharding, depth: int) -> Iterator[tuple[Batch, dict]]:
    """Keeps `depth` batches on the devices ahead of the one in use.

    Args:
      batches: pairs of a process's batch and the state after it.
      sharding: of the global batch.
    """
    queue: collections.deque = collections.deque()
    for batch, state in batches:
        placed = {
            key: jax.make_array_from_process_local_data(sharding, value)
            for key, value in batch.items()
        }
        queue.append((placed, state))
        if len(queue) > depth:
            yield queue.popleft()
    yield from queue


def evaluation_examples(
    config: ConfigDict, source, first: int = 0, every: int = 1
) -> Iterator[dict]:
    """A split's decoded examples, in order, from the first on every so many."""
    decode = Decode(config.model.in_channels, tuple(config.dataset.labels))
    dataset = grain.MapDataset.source(source)[first::every].map(decode)
    yield from dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))


def folder_examples(
    image_dir: pathlib.Path, label_dir: pathlib.Path, channels: int
) -> Iterator[dict]:
    """Decoded examples of images and their labels in two folders.

    Raises:
      UserError: an image has no label, a label another size, or a file cannot be read.
    """
    for image_path, label_path in images.find_pairs(image_dir, label_dir):
        image, label = image_path.read_bytes(), label_path.read_bytes()
        name = image_path.stem.encode()
        yield Decode(channels, ("label",))({"name": name, "image": image, "label": label})
