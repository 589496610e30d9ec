"""Decoding and augmentation of examples."""

import dataclasses

import numpy as np

from eal_icnet_jax.imaging import decoding, pixel_values
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.terminal import warn


@dataclasses.dataclass(frozen=True)
class Decode:
    """Decode the image and the masks of an example.

    Returns a dict of `image` `[H, W, channels]` float32 in [0, 1], `label` `[H, W, L]` bool and
    `name`.

    Args:
      channels: of the decoded image, 1 or 3.
      labels: names of the L features that hold masks.
      smallest: least height and width of an image, in pixels.
      white: level of white of the images; None for what each file states or shows.

    Raises:
      UserError: a file cannot be decoded, a mask differs in size from its image, or the image is
        too small.
    """

    channels: int
    labels: tuple[str, ...]
    smallest: int = 0
    white: int | None = None

    def __call__(self, example: dict) -> dict:
        name = example["name"].decode()
        image, notes = decoding.decode(example["image"], f"image {name}", self.white)
        for note in notes:
            warn(f"image {name}: {note}")
        height, width = image.shape[:2]
        if min(height, width) < self.smallest:
            raise UserError(
                f"image {name} is {height}x{width}, but the networks need at least "
                f"{self.smallest}x{self.smallest} pixels: remove it or use a larger one"
            )
        masks = []
        for feature in self.labels:
            mask, notes = decoding.decode_mask(example[feature], f"{feature} of {name}")
            for note in notes:
                warn(f"{feature} of {name} {note}")
            if mask.shape != (height, width):
                raise UserError(
                    f"{feature} of {name} is {mask.shape[0]}x{mask.shape[1]}, its image "
                    f"{height}x{width}: make them one size"
                )
            masks.append(mask)
        return {
            "image": pixel_values.to_unit_range(image, self.channels),
            "label": np.stack(masks, -1),
            "name": name,
        }


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Cut the same random square out of image and label.

    Args:
      size: side of the square in pixels.

    Raises:
      UserError: the image is smaller than the square.
    """

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
    """Change an example at random, as `config.augmentation` says.

    Args:
      flip: flip image and label along each axis with probability 1/2.
      rotate: turn both by a random multiple of 90 degrees.
      brightness: largest value that is added to or subtracted from the image.
      contrast: largest fraction by which the image is scaled up or down about its mean.

    Raises:
      UserError: an image that is not square would have to be turned.
    """

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
            quarter_turns = int(rng.integers(4))
            image, label = np.rot90(image, quarter_turns), np.rot90(label, quarter_turns)
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
