"""Decoded examples for evaluation, from a prepared split or from two folders."""

import pathlib
from collections.abc import Iterator

import grain
from ml_collections import ConfigDict

from eal_icnet_jax.data.paired_folders import IGNORE
from eal_icnet_jax.data.transforms import CentreView, Decode
from eal_icnet_jax.imaging import decoding, image_folders
from eal_icnet_jax.imaging.stretching import Percentiles
from eal_icnet_jax.models.registry import SMALLEST_IMAGE, Preprocessing

UNPREPARED = Preprocessing()
"""Images as they are."""


def evaluation_examples(
    config: ConfigDict,
    source,
    start: int = 0,
    step: int = 1,
    preprocessing: Preprocessing = UNPREPARED,
) -> Iterator[dict]:
    """Yield every `step`-th decoded example of a split, in order, starting at `start`.

    Args:
      config: names the labels and the number of channels.
      source: of `prepared_datasets.open_split`.
      start: index of the first example.
      step: distance between the examples' indices.
      preprocessing: of the network. If it was trained on crops at one width of wires, each example
        is the middle square of that size, magnified so that its wires have that width.

    Yields:
      The dicts of `transforms.Decode`.

    Raises:
      UserError: a file cannot be decoded, or an image is too small for the networks.
    """
    labels = tuple(config.dataset.labels)
    channels, stretch = config.model.in_channels, preprocessing.stretch
    decode = Decode(channels, labels, SMALLEST_IMAGE, percentiles=stretch)
    dataset = grain.MapDataset.source(source)[start::step].map(decode)
    if preprocessing.crop_size:
        dataset = dataset.map(CentreView(preprocessing.crop_size, preprocessing.wire_width))
    yield from dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))


def folder_examples(
    pairs: list[image_folders.Pair],
    channels: int,
    smallest: int = 0,
    white: int | None = None,
    percentiles: Percentiles | None = None,
    ignored: dict[str, pathlib.Path] | None = None,
) -> Iterator[dict]:
    """Yield the decoded examples of images and of labels in two folders.

    Args:
      pairs: of `image_folders.find_pairs`.
      channels: of the decoded images, 1 or 3.
      smallest: least height and width of an image, in pixels.
      white: level of white of the images; None for what each file states or shows.
      percentiles: that become black and white, see `stretching.stretch`.
      ignored: masks of the pixels that do not count, by the name of the image.

    Yields:
      The dicts of `transforms.Decode`, with one label.

    Raises:
      UserError: a label has another size than its image, a file cannot be read, or an image is too
        small.
    """
    decode = Decode(channels, ("label",), smallest, white, percentiles)
    for image_path, label_path in pairs:
        name = image_folders.stem_of(image_path)
        ignore_path = (ignored or {}).get(name)
        yield decode(
            {
                "name": name.encode(),
                "image": decoding.read_bytes(image_path),
                "label": decoding.read_bytes(label_path),
                IGNORE: decoding.read_bytes(ignore_path) if ignore_path else None,
            }
        )
