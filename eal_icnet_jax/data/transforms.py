"""Decoding and augmentation of examples."""

import dataclasses
import functools

import cv2
import numpy as np

from eal_icnet_jax.data.paired_folders import IGNORE
from eal_icnet_jax.imaging import decoding, pixel_values, stretching
from eal_icnet_jax.imaging.jpeg import through_jpeg
from eal_icnet_jax.imaging.wire_width import median_wire_width
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.terminal import warn

CROP_TRIES = 8
"""Places that are tried for a random crop. The first one with enough labelled area is taken."""

ENOUGH_LABELLED = 0.5
"""Part of a random crop that should count, relative to the most that could."""

ARRAYS = ("image", "label", "valid")
"""Keys of an example's arrays."""


@dataclasses.dataclass(frozen=True)
class Decode:
    """Decode the image and the masks of an example.

    Returns a dict of `image` `[H, W, channels]` float32 in [0, 1], `label` `[H, W, L]` bool,
    `valid` `[H, W, 1]` bool and `name`. Where a pixel is ignored, `valid` and all labels are False.

    Args:
      channels: of the decoded image, 1 or 3.
      labels: names of the L features that hold masks.
      smallest: least height and width of an image, in pixels.
      white: level of white of the images; None for what each file states or shows.
      percentiles: that become black and white, see `stretching.stretch`.

    Raises:
      UserError: a file cannot be decoded, a mask differs in size from its image, the image is too
        small, or all of it is ignored.
    """

    channels: int
    labels: tuple[str, ...]
    smallest: int = 0
    white: int | None = None
    percentiles: stretching.Percentiles | None = None

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
        return {
            "image": pixel_values.to_unit_range(
                stretching.stretch(image, self.percentiles), self.channels
            ),
            **_decoded_masks(example, self.labels, (height, width)),
            "name": name,
        }


@dataclasses.dataclass(frozen=True)
class DecodeMasks:
    """Decode the masks of an example only, as `Decode` does.

    Args:
      labels: names of the L features that hold masks.
    """

    labels: tuple[str, ...]

    def __call__(self, example: dict) -> dict:
        return _decoded_masks(example, self.labels)


def _decoded_masks(
    example: dict, labels: tuple[str, ...], shape: tuple[int, int] | None = None
) -> dict[str, np.ndarray]:
    """Return `label` and `valid` of an example, see `Decode`.

    Args:
      example: with the masks still encoded.
      labels: names of the masks.
      shape: height and width of the image; None for those of the first mask.
    """
    name, masks = example["name"].decode(), []
    for key in labels:
        masks.append(_decoded_mask(example[key], f"{key} of {name}", shape))
        shape = masks[0].shape
    label = np.stack(masks, -1)
    valid = np.ones((*label.shape[:2], 1), bool)
    if example.get(IGNORE) is not None:
        valid[..., 0] = ~_decoded_mask(example[IGNORE], f"{IGNORE} of {name}", shape)
    if not valid.any():
        raise UserError(f"image {name} is ignored everywhere: remove it")
    return {"label": label & valid, "valid": valid}


def _decoded_mask(data: bytes, name: str, shape: tuple[int, int] | None) -> np.ndarray:
    """Return a mask of an image `[H, W]` bool, and report what had to be assumed about it."""
    mask, notes = decoding.decode_mask(data, name)
    for note in notes:
        warn(f"{name} {note}")
    if shape is not None and mask.shape != shape:
        raise UserError(
            f"{name} is {mask.shape[0]}x{mask.shape[1]}, its image {shape[0]}x{shape[1]}: make "
            "them one size"
        )
    return mask


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Cut the same random square out of image and masks.

    It lies around a pixel that counts, where enough of it counts if such a place is found soon.

    Args:
      size: side of the square in pixels.
      scale: lowest and highest factor by which the image is magnified first; below 1 it is shrunk.
      angle: largest angle in degrees by which it is turned first. What lies beyond the image is
        mirrored.
      wire_width: in pixels, to which the wires of the first label are magnified, apart from
        `scale`; 0 leaves their width. Images are never shrunk below the square.

    Raises:
      UserError: the image is smaller than the square.
    """

    size: int
    scale: tuple[float, float] = (1.0, 1.0)
    angle: float = 0.0
    wire_width: float = 0.0

    def __call__(self, example: dict, rng: np.random.Generator) -> dict:
        height, width = example["image"].shape[:2]
        if min(height, width) < self.size:
            raise UserError(
                f"image {example['name']} is {height}x{width}, smaller than the crop: lower "
                f"config.dataset.crop_size from {self.size}"
            )
        factor, angle, cut = 1.0, 0.0, self._part
        is_view = tuple(self.scale) != (1, 1) or self.angle or self.wire_width
        if is_view:
            scale = float(np.exp(rng.uniform(*np.log(self.scale))))
            usual, least = _magnification(example["label"], self.size, self.wire_width)
            factor = max(scale * usual, least)
            angle = np.deg2rad(rng.uniform(-1, 1) * self.angle)
            cut = functools.partial(_square, size=self.size, factor=factor, angle=angle)
        extent, half = np.array([width, height]), self.size / factor / 2
        if example["valid"].all():
            if is_view:
                centre = self._centre(rng, extent, half, np.zeros(2), extent)
            else:
                corner = [rng.integers(0, length - self.size + 1) for length in (height, width)]
                centre = np.array(corner[::-1]) + half
            return cut(example, ARRAYS, centre=centre)
        counted = np.flatnonzero(example["valid"])
        wanted = ENOUGH_LABELLED * min(1.0, len(counted) / (2 * half) ** 2)
        best, most = None, -1.0
        for _ in range(CROP_TRIES):
            y, x = np.unravel_index(rng.choice(counted), (height, width))
            pixel = np.array([x, y]) + 0.5
            # The pixel lies in every square around these centres, also in a turned one.
            reach = half / (abs(np.cos(angle)) + abs(np.sin(angle)))
            centre = self._centre(rng, extent, half, pixel - reach, pixel + reach)
            part = cut(example, ("valid",), centre=centre)["valid"].mean()
            if part > most:
                best, most = centre, part
            if most >= wanted:
                break
        return cut(example, ARRAYS, centre=best)

    @staticmethod
    def _centre(
        rng: np.random.Generator,
        extent: np.ndarray,
        half: float,
        lowest: np.ndarray,
        highest: np.ndarray,
    ) -> np.ndarray:
        """Return a random centre (x, y) of a square that does not leave the image, if it can."""
        reach = np.minimum(half, extent / 2)
        return rng.uniform(*(np.clip(ends, reach, extent - reach) for ends in (lowest, highest)))

    def _part(self, example: dict, keys: tuple[str, ...], centre: np.ndarray) -> dict:
        """Return an example with a square of some of its arrays, as it is."""
        last = np.array(example["image"].shape[1::-1]) - self.size
        left, top = np.clip(np.floor(centre - self.size / 2 + 0.5), 0, last).astype(int)
        window = (slice(top, top + self.size), slice(left, left + self.size))
        return {**example, **{key: example[key][window] for key in keys}}


@dataclasses.dataclass(frozen=True)
class CentreView:
    """Cut a square out of image and masks, magnified as `RandomCrop` does.

    It is the square with the most pixels that count; of several, the one nearest to the middle.

    Args:
      size: side of the square in pixels.
      wire_width: in pixels, to which the wires of the first label are magnified.
    """

    size: int
    wire_width: float

    def __call__(self, example: dict) -> dict:
        factor = max(_magnification(example["label"], self.size, self.wire_width))
        centre = _best_centre(example["valid"][..., 0], self.size / factor)
        return _square(example, ARRAYS, self.size, factor, 0.0, centre)


def _best_centre(valid: np.ndarray, side: float) -> np.ndarray:
    """Return the centre (x, y) of the square with the most pixels that count.

    Of several such squares, it is the one nearest to the middle of the image.

    Args:
      valid: `[H, W]` bool.
      side: of the square in pixels.
    """
    middle = np.array(valid.shape[::-1]) / 2
    if valid.all():
        return middle
    side = max(1, round(side))
    sums = cv2.boxFilter(
        valid.astype(np.float32), -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    y, x = np.nonzero(sums >= sums.max() - 0.5)
    centres = np.stack([x, y], 1) + (0.5 if side % 2 else 0.0)  # OpenCV's anchor of even squares
    return centres[np.argmin(((centres - middle) ** 2).sum(1))]


def _magnification(label: np.ndarray, size: int, wire_width: float) -> tuple[float, float]:
    """Return the factor for the wires of the first label to have a width, and the least factor.

    Args:
      label: `[H, W, L]`.
      size: side of the square in pixels, which is filled.
      wire_width: 0 for the width that they have.
    """
    width = median_wire_width(label[..., 0]) if wire_width else 0
    if not width:
        return 1.0, 0.0
    return wire_width / width, size / min(label.shape[:2])


def _square(
    example: dict,
    keys: tuple[str, ...],
    size: int,
    factor: float,
    angle: float,
    centre: np.ndarray,
) -> dict:
    """Return an example with a magnified and turned square of some of its arrays.

    Args:
      example: with `image`, `label` and `valid`.
      keys: of these three.
      size: side of the square in pixels.
      factor: magnification.
      angle: in radians.
      centre: (x, y) of the square in the image.
    """
    cos, sin = factor * np.cos(angle), factor * np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]])
    # Pixel centres lie at integers, and the square's centre between its middle pixels.
    offset = (size - 1) / 2 - matrix @ (centre - 0.5)

    def warped(values: np.ndarray) -> np.ndarray:
        out = cv2.warpAffine(
            values,
            np.column_stack([matrix, offset]),
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return out.reshape(size, size, -1)

    out = dict(example)
    if "image" in keys:
        image = example["image"]
        if factor < 1:
            image = cv2.GaussianBlur(image, (0, 0), 0.4 / factor)
        out["image"] = warped(image)
    if "label" in keys:
        out["label"] = warped(example["label"].astype(np.float32)) >= 0.5
    if "valid" in keys:
        # No pixel counts that an ignored one is part of.
        out["valid"] = warped(example["valid"].astype(np.float32)) > 0.999
    return out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """Change an example at random, as `config.augmentation` says.

    Args:
      flip: flip image and masks along each axis with probability 1/2.
      rotate: turn both by a random multiple of 90 degrees.
      brightness: largest value that is added to or subtracted from the image.
      contrast: largest fraction by which the image is scaled up or down about its mean.
      colour: largest fraction by which each channel is scaled up or down.
      gamma: largest exponent of the values, or its inverse; 1 for none.
      blur: largest standard deviation in pixels.
      noise: largest standard deviation, of a range of 1.
      jpeg: lowest quality of a JPEG that half of the images go through; 0 for none.
      cutout: largest side of a grey square that hides a part of half of the images, relative to the
        image's side.

    Raises:
      UserError: an image that is not square would have to be turned.
    """

    flip: bool = False
    rotate: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    gamma: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    cutout: float = 0.0

    def __call__(self, example: dict, rng: np.random.Generator) -> dict:
        parts = {key: example[key] for key in ARRAYS}
        if self.flip:
            axes = [axis for axis in (0, 1) if rng.random() < 0.5]
            parts = {key: np.flip(part, axes) for key, part in parts.items()}
        if self.rotate:
            height, width = parts["image"].shape[:2]
            if height != width:
                raise UserError(
                    f"image {example['name']} is {height}x{width}, and only squares can be turned: "
                    "set config.augmentation.rotate=False or a crop_size"
                )
            quarter_turns = int(rng.integers(4))
            parts = {key: np.rot90(part, quarter_turns) for key, part in parts.items()}
        image = self._with_levels(self._with_defects(parts["image"], rng), rng)
        parts["image"] = image.astype(np.float32)
        return {**example, **{key: np.ascontiguousarray(part) for key, part in parts.items()}}

    def _with_defects(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image out of focus, noisy, through JPEG, and with a hidden part."""
        if self.blur and (sigma := rng.uniform(0, self.blur)) > 0.2:
            image = _channels_last(cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), sigma))
        if self.noise:
            noise = rng.standard_normal(image.shape, np.float32)
            image = np.clip(image + np.float32(rng.uniform(0, self.noise)) * noise, 0, 1)
        if self.jpeg and rng.random() < 0.5:
            stored = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
            stored = through_jpeg(stored, int(rng.integers(self.jpeg, 101)))
            image = _channels_last(stored).astype(np.float32) / 255
        if self.cutout and rng.random() < 0.5:
            image = np.array(image)
            height, width = image.shape[:2]
            side = int(rng.uniform(0, self.cutout) * min(height, width))
            top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
            image[top : top + side, left : left + side] = rng.random(dtype=np.float32)
        return image

    def _with_levels(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image with other levels: gamma, colour, contrast, brightness."""
        if self.gamma > 1:
            image = np.clip(image, 0, 1) ** np.float32(self.gamma ** rng.uniform(-1, 1))
        if self.colour:
            gains = 1 + self.colour * rng.uniform(-1, 1, image.shape[-1])
            image = image * gains.astype(np.float32)
        if self.contrast:
            mean = image.mean()
            image = (image - mean) * np.float32(1 + rng.uniform(-1, 1) * self.contrast) + mean
        if self.brightness:
            image = image + np.float32(rng.uniform(-1, 1) * self.brightness)
        if self.colour or self.contrast or self.brightness:
            image = np.clip(image, 0, 1)
        return image


def _channels_last(image: np.ndarray) -> np.ndarray:
    """Return an image of OpenCV, which drops a single channel, as `[H, W, C]`."""
    return image if image.ndim == 3 else image[..., None]
