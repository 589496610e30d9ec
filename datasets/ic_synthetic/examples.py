"""The kinds of drawn data, and one example of a kind.

Apart from the TFDS builder, so that the processes that draw need neither TFDS nor TensorFlow.
"""

import dataclasses
import functools
import zlib

import numpy as np
from eal_icnet_jax.datasets.ic_synthetic import layout, micrograph

from eal_icnet_jax import images

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of data.

    name, description: of the builder config.
    size: of the square images, in pixels.
    optical: an RGB bright-field image, else a grey scanning electron micrograph.
    label: "metal" or "via": what the label marks.
    via_label: whether vias have a mask of their own.
    compressed: whether images went through JPEG before.
    without_vias: fraction of images that have no via.
    images: number in train, validation and test.
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


def draw_example(kind: Kind, split: str, index: int) -> dict[str, np.ndarray]:
    """One example, a function of the kind, its seed, the split and the index alone.

    Returns:
      image `[size, size, 3]` or `[size, size, 1]` uint8, label (and via_label) `[size, size, 1]`
      uint8 of 0 and 255.
    """
    key = [kind.seed, zlib.crc32(kind.name.encode()), SPLITS.index(split), index]
    rng = np.random.default_rng(key)
    size = kind.size
    pitch = layout.draw_pitch(rng)
    blocks = int(rng.integers(0, 4))
    metal_layer = layout.random_layer(rng, size, pitch, blocks=blocks, angle=rng.normal(0, 0.01))
    if rng.random() < kind.without_vias:
        metal_layer.vias.clear()
    lower_layer = layout.random_layer(
        rng, size, pitch * rng.uniform(0.8, 1.8), blocks=1, angle=rng.normal(0, 0.01)
    )
    etched = functools.partial(
        micrograph.shaped,
        rng,
        rounding=pitch * rng.uniform(0.02, 0.06),
        roughness=rng.uniform(0.15, 0.45) if kind.optical else rng.uniform(0.3, 0.6),
    )
    metal = etched(layout.signed_distance(layout.rasterize_metal(metal_layer, size)))
    lower = layout.signed_distance(layout.rasterize_metal(lower_layer, size))
    vias = layout.signed_distance(layout.rasterize_vias(metal_layer, size))
    if kind.optical:
        image = micrograph.optical_micrograph(rng, metal, lower, vias)
    else:
        image = micrograph.electron_micrograph(rng, metal, lower, vias, compressed=kind.compressed)
        image = image[..., None]
    masks = {"metal": metal > 0, "via": vias > 0}
    example = {"image": image, "label": masks[kind.label]}
    if kind.via_label:
        example["via_label"] = masks["via"]
    return {
        key: value if key == "image" else 255 * value[..., None].astype(np.uint8)
        for key, value in example.items()
    }


def encoded_example(kind: Kind, split: str, index: int) -> tuple[str, dict]:
    """The example's name, and its features with the images as PNG bytes."""
    name = f"{split}_{index:05d}"
    example = draw_example(kind, split, index)
    return name, {"name": name, **{key: images.encode(value) for key, value in example.items()}}
