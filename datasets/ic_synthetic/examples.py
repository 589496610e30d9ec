"""The kinds of drawn examples, and the drawing of one example.

Separate from the TFDS builder, so that the processes that draw import neither TFDS nor TensorFlow.
"""

import dataclasses
import functools
import zlib

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import micrograph, random_layers
from eal_icnet_jax.datasets.ic_synthetic.rasterization import (
    rasterize_metal,
    rasterize_vias,
    signed_distance,
)
from eal_icnet_jax.imaging import png

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of drawn examples, which is one builder config.

    Attributes:
      name: of the builder config.
      description: of the builder config.
      size: side of the square images, in pixels.
      optical: whether images are RGB bright-field images; otherwise grey scanning electron
        micrographs.
      label: what the label marks, "metal" or "via".
      via_label: whether vias have a mask of their own.
      compressed: whether images went through JPEG.
      without_vias: fraction of images without vias.
      images: number of images in train, validation and test.
      seed: of everything that is drawn.
    """

    name: str
    description: str
    size: int = 512
    optical: bool
    label: str = "metal"
    via_label: bool = False
    compressed: bool = False
    without_vias: float = 0.0
    images: tuple[int, int, int] = (400, 50, 50)
    seed: int = 0


KINDS = (
    Kind(
        name="optical_circuit",
        description="Optical micrographs, metal labelled.",
        optical=True,
    ),
    Kind(
        name="optical_via",
        description="Optical micrographs, vias labelled; some images have none.",
        optical=True,
        label="via",
        without_vias=0.08,
        images=(240, 30, 30),
    ),
    Kind(
        name="sem_circuit",
        description="Scanning electron micrographs after JPEG, metal labelled.",
        optical=False,
        compressed=True,
    ),
    Kind(
        name="sem_metal_via",
        description="Scanning electron micrographs, metal and vias labelled apart.",
        optical=False,
        via_label=True,
        size=1024,
        images=(80, 10, 10),
    ),
    Kind(
        name="tiny",
        description="A few small optical micrographs, to try things in seconds.",
        optical=True,
        size=96,
        images=(8, 3, 3),
    ),
)


def kind_by_name(name: str) -> Kind:
    """Return the kind of a builder config."""
    return next(kind for kind in KINDS if kind.name == name)


def _draw_layers(kind: Kind, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return signed distances `[size, size]` to the edges of metal, lower metal and vias."""
    size = kind.size
    pitch = random_layers.draw_pitch(rng)
    blocks = int(rng.integers(0, 4))
    metal_layer = random_layers.random_layer(
        rng, size, pitch, blocks=blocks, angle=rng.normal(0, 0.01)
    )
    if rng.random() < kind.without_vias:
        metal_layer.vias.clear()
    lower_layer = random_layers.random_layer(
        rng, size, pitch * rng.uniform(0.8, 1.8), blocks=1, angle=rng.normal(0, 0.01)
    )
    etched = functools.partial(
        micrograph.etched,
        rng,
        rounding=pitch * rng.uniform(0.02, 0.06),
        roughness=rng.uniform(0.15, 0.45) if kind.optical else rng.uniform(0.3, 0.6),
    )
    return {
        "metal": etched(signed_distance(rasterize_metal(metal_layer, size))),
        "lower": signed_distance(rasterize_metal(lower_layer, size)),
        "vias": signed_distance(rasterize_vias(metal_layer, size)),
    }


def draw_example(kind: Kind, split: str, index: int) -> dict[str, np.ndarray]:
    """Draw one example, which depends only on the arguments.

    Args:
      kind: of the example.
      split: one of `SPLITS`.
      index: of the example in its split.

    Returns:
      `image` `[size, size, 3]` or `[size, size, 1]` uint8, and `label` (and `via_label`)
      `[size, size, 1]` uint8 of 0 and 255.
    """
    key = [kind.seed, zlib.crc32(kind.name.encode()), SPLITS.index(split), index]
    rng = np.random.default_rng(key)
    distances = _draw_layers(kind, rng)
    if kind.optical:
        image = micrograph.optical_micrograph(rng, **distances)
    else:
        image = micrograph.electron_micrograph(rng, **distances, compressed=kind.compressed)
        image = image[..., None]
    masks = {"metal": distances["metal"] > 0, "via": distances["vias"] > 0}
    labels = {"label": masks[kind.label]}
    if kind.via_label:
        labels["via_label"] = masks["via"]
    return {
        "image": image,
        **{name: 255 * mask[..., None].astype(np.uint8) for name, mask in labels.items()},
    }


def encoded_example(kind: Kind, split: str, index: int) -> tuple[str, dict]:
    """Return an example's name, and its features with the images as PNG bytes."""
    name = f"{split}_{index:05d}"
    example = draw_example(kind, split, index)
    return name, {"name": name, **{key: png.encode(value) for key, value in example.items()}}
