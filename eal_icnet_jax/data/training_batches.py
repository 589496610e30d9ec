"""Shuffled, augmented training batches whose position can be saved."""

import collections
import hashlib
import json
from collections.abc import Iterator

import grain
import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from eal_icnet_jax.data.transforms import Augment, Decode, RandomCrop
from eal_icnet_jax.imaging.stretching import Percentiles
from eal_icnet_jax.models.registry import SMALLEST_IMAGE
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, ProcessGroup
from eal_icnet_jax.system.workers import exit_with_parent

Batch = dict[str, jax.Array]


def _stack(examples: list[dict]) -> dict[str, np.ndarray]:
    shapes = {example["image"].shape[:2] for example in examples}
    if len(shapes) > 1:
        sizes = " and ".join(f"{height}x{width}" for height, width in sorted(shapes))
        raise UserError(
            f"images of {sizes} cannot share a batch: set config.dataset.crop_size, or "
            "config.batch_size to the number of devices"
        )
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def _without_name(example: dict) -> dict:
    return {key: example[key] for key in ("image", "label", "valid")}


def _check_batch_size(batch_size: int, images: int):
    if batch_size % jax.device_count():
        raise UserError(
            f"config.batch_size is {batch_size}, which {jax.device_count()} devices "
            "cannot share equally: choose a multiple"
        )
    if batch_size > images:
        raise UserError(
            f"config.batch_size is {batch_size}, more than the {images} training images: lower it"
        )


def _identity(config: ConfigDict, images: int) -> str:
    """Return a hash of everything that decides which images a batch holds."""
    data = config.dataset
    names = tuple(data.train_on) or (data.name, data.config)
    source = (*names, data.mixed, data.views, tuple(data.labels), data.crop_size, images)
    content = (*source, config.seed, config.batch_size)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class TrainingBatches:
    """The batches of a training in order, from a position that can be saved and set.

    Each epoch is another permutation of the images. A batch depends only on the seed and on its
    position, not on the number of workers or on where reading began. Every process reads its own
    part of a batch. The parts of all processes, one after another, are the batch of a single
    process, image by image, because dropout draws random numbers by the place in a batch.

    Args:
      config: of the training.
      source: random access to the training split, see `prepared_datasets.open_split`.
      processes: the group that shares every batch.
      percentiles: that become black and white, see `stretching.stretch`.
      wire_width: to which crops are magnified, see `RandomCrop`.

    Raises:
      UserError: the batch size does not suit the number of devices or images.

    Attributes:
      batches_per_epoch: number of batches in an epoch.
    """

    def __init__(
        self,
        config: ConfigDict,
        source,
        processes: ProcessGroup = SINGLE_PROCESS,
        percentiles: Percentiles | None = None,
        wire_width: float = 0.0,
    ):
        _check_batch_size(config.batch_size, len(source))
        self._config, self._source, self._processes = config, source, processes
        self._percentiles, self._wire_width = percentiles, wire_width
        self.batches_per_epoch = len(source) // config.batch_size
        self._dataset = grain.MapDataset.concatenate([self._epoch(k) for k in range(config.epochs)])
        self._identity = _identity(config, len(source))
        self._position = 0

    def _shuffled(self, epoch: int) -> grain.MapDataset:
        seed = int(np.random.SeedSequence([self._config.seed, epoch]).generate_state(1)[0])
        return grain.MapDataset.source(self._source).seed(seed).shuffle()

    def _epoch(self, epoch: int) -> grain.MapDataset:
        """Return this process's part of an epoch's batches."""
        config, processes = self._config, self._processes
        labels = tuple(config.dataset.labels)
        dataset = self._shuffled(epoch).map(
            Decode(config.model.in_channels, labels, SMALLEST_IMAGE, percentiles=self._percentiles)
        )
        changes = dict(config.augmentation)
        scale, angle = changes.pop("scale"), changes.pop("angle")
        if config.dataset.crop_size:
            crop = RandomCrop(config.dataset.crop_size, scale, angle, self._wire_width)
            dataset = dataset.random_map(crop)
        dataset = dataset.random_map(Augment(**changes)).map(_without_name)
        dataset = dataset[: self.batches_per_epoch * config.batch_size]
        size = config.batch_size // processes.count
        if processes.count > 1:
            places = range(processes.index * size, (processes.index + 1) * size)
            dataset = grain.MapDataset.mix([dataset[k :: config.batch_size] for k in places])
        return dataset.batch(size, drop_remainder=True, batch_fn=_stack)

    def names(self, batch: int) -> list[str]:
        """Return the names of the images in a batch of all processes.

        Args:
          batch: number of the batch, from 0 at the start of the training.
        """
        epoch, k = divmod(batch, self.batches_per_epoch)
        order, size = self._shuffled(epoch), self._config.batch_size
        return [order[k * size + i]["name"].decode() for i in range(size)]

    def get_state(self) -> dict:
        """Return the position as JSON types."""
        return {"next_batch": self._position, "data": self._identity}

    def set_state(self, state: dict):
        """Go to the position that `get_state` returned.

        Raises:
          UserError: the state belongs to other data, another seed or another batch size.
        """
        if state["data"] != self._identity:
            raise UserError(
                "the checkpoint was trained on other data, or with another seed or batch size: "
                "use a new --workdir"
            )
        self._position = state["next_batch"]

    def __iter__(self) -> Iterator[tuple[dict[str, np.ndarray], dict]]:
        """Yield this process's batch, and the state from which the next batch follows.

        A batch is a dict of `image` `[B, H, W, C]` float32 in [0, 1], `label` `[B, H, W, L]` bool
        and `valid` `[B, H, W, 1]` bool, the pixels that count.

        Raises:
          UserError: an image does not suit the training, or a worker process was killed.
        """
        workers = self._config.workers
        remaining = self._dataset[self._position :]
        if workers:
            if not flags.FLAGS.is_parsed():  # Grain's workers read flags, also outside of commands
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(num_workers=workers)
            batches = remaining.to_iter_dataset(grain.ReadOptions(num_threads=1))
            batches = batches.mp_prefetch(options, worker_init_fn=_start_worker)
        else:
            options = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
            batches = remaining.to_iter_dataset(options)
        try:
            for batch in batches:
                self._position += 1
                yield batch, self.get_state()
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise UserError(
                f"one of the {workers} processes that read images was killed, perhaps because "
                "memory ran out: lower config.workers, and run the same command again to go on "
                "from the last checkpoint"
            ) from error


def _start_worker(index: int, count: int):
    del index, count
    exit_with_parent()  # Grain leaves its workers behind if the trainer is killed


def to_devices(batches, sharding, depth: int) -> Iterator[tuple[Batch, dict]]:
    """Yield batches on the devices. The next `depth` batches are already being transferred.

    Args:
      batches: pairs of this process's batch and the state after it.
      sharding: of the batch of all processes.
      depth: number of batches ahead of the one in use.
    """
    queue: collections.deque = collections.deque()
    for batch, state in batches:
        on_devices = {
            key: jax.make_array_from_process_local_data(sharding, value)
            for key, value in batch.items()
        }
        queue.append((on_devices, state))
        if len(queue) > depth:
            yield queue.popleft()
    yield from queue
