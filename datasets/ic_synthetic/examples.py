"""The kinds of drawn examples, and the drawing of one example.

Separate from the TFDS builder, so that the processes that draw import neither TFDS nor TensorFlow.
"""

import dataclasses
import functools
import pathlib
import zlib

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import micrograph, random_layers
from eal_icnet_jax.datasets.ic_synthetic.camera import CameraRanges
from eal_icnet_jax.datasets.ic_synthetic.electron_photograph import (
    ElectronRanges,
    electron_photograph,
)
from eal_icnet_jax.datasets.ic_synthetic.optical_photograph import OpticalRanges, optical_photograph
from eal_icnet_jax.datasets.ic_synthetic.photograph_geometry import (
    Distances,
    GeometryRanges,
    draw_distances,
)
from eal_icnet_jax.datasets.ic_synthetic.rasterization import (
    rasterize_metal,
    rasterize_vias,
    signed_distance,
)
from eal_icnet_jax.imaging import png

SPLITS = ("train", "validation", "test")

METAL_FRACTION = 0.01, 0.92
"""Range of the part of a photograph that is metal. Others show no wires and are drawn again."""


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
      photographs: the ranges from which each image draws its geometry and its look; None for
        images of one clean kind.
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
    photographs: tuple[GeometryRanges, OpticalRanges | ElectronRanges] | None = None
    images: tuple[int, int, int] = (400, 50, 50)
    seed: int = 0


OPTICAL_PHOTOGRAPHS = Kind(
    name="optical_photographs",
    description="Optical photographs of dies of every kind, metal and vias labelled apart.",
    optical=True,
    via_label=True,
    photographs=(GeometryRanges(), OpticalRanges()),
    size=576,
    images=(2400, 50, 50),
)

ELECTRON_PHOTOGRAPHS = dataclasses.replace(
    OPTICAL_PHOTOGRAPHS,
    name="sem_photographs",
    description="Scanning electron photographs of dies of every kind, metal and vias labelled "
    "apart.",
    optical=False,
    # Narrower wires, once magnified, would be as blurred as the texture of the ground.
    photographs=(GeometryRanges(wire_width=(7, 80), wide=0.15), ElectronRanges()),
    size=384,
    images=(3000, 100, 100),
)

FEW = 200, 10, 10
"""Number of images in train, validation and test of the kinds that are mixed into a training."""

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
    OPTICAL_PHOTOGRAPHS,
    ELECTRON_PHOTOGRAPHS,
    dataclasses.replace(
        OPTICAL_PHOTOGRAPHS,
        name="few_optical_photographs",
        description="A few of the optical photographs, to train on beside labelled ones.",
        size=384,
        images=FEW,
    ),
    dataclasses.replace(
        ELECTRON_PHOTOGRAPHS,
        name="few_sem_photographs",
        description="A few of the scanning electron photographs, to train on beside labelled ones.",
        images=FEW,
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


def _photograph_distances(
    kind: Kind, rng: np.random.Generator, layouts: tuple[pathlib.Path, ...]
) -> Distances:
    """Return the geometry of a photograph that shows metal and ground."""
    ranges, _ = kind.photographs
    while True:
        distances = draw_distances(rng, kind.size, ranges, layouts)
        if METAL_FRACTION[0] < np.mean(distances.metal > 0) < METAL_FRACTION[1]:
            return distances


def _draw_image(
    kind: Kind, rng: np.random.Generator, layouts: tuple[pathlib.Path, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image and the signed distances of its metal and its vias."""
    if kind.photographs is not None:
        geometry = _photograph_distances(kind, rng, layouts)
        look = kind.photographs[1]
        if kind.optical:
            image = optical_photograph(rng, geometry, look, CameraRanges())
        else:
            image = electron_photograph(rng, geometry, look)
        return image, geometry.metal, geometry.vias
    distances = _draw_layers(kind, rng)
    if kind.optical:
        image = micrograph.optical_micrograph(rng, **distances)
    else:
        image = micrograph.electron_micrograph(rng, **distances, compressed=kind.compressed)
    return image, distances["metal"], distances["vias"]


def draw_example(
    kind: Kind, split: str, index: int, layouts: tuple[pathlib.Path, ...] = ()
) -> dict[str, np.ndarray]:
    """Draw one example, which depends only on the arguments.

    Args:
      kind: of the example.
      split: one of `SPLITS`.
      index: of the example in its split.
      layouts: mask files of real layouts, which some photographs show.

    Returns:
      `image` `[size, size, 3]` or `[size, size, 1]` uint8, and `label` (and `via_label`)
      `[size, size, 1]` uint8 of 0 and 255.
    """
    key = [kind.seed, zlib.crc32(kind.name.encode()), SPLITS.index(split), index]
    rng = np.random.default_rng(key)
    image, metal, vias = _draw_image(kind, rng, layouts)
    masks = {"metal": metal > 0, "via": vias > 0}
    labels = {"label": masks[kind.label]}
    if kind.via_label:
        labels["via_label"] = masks["via"]
    return {
        "image": image if image.ndim == 3 else image[..., None],
        **{name: 255 * mask[..., None].astype(np.uint8) for name, mask in labels.items()},
    }


def example_name(split: str, index: int) -> str:
    """Return the name of an example."""
    return f"{split}_{index:05d}"


def encoded_example(
    kind: Kind, split: str, layouts: tuple[pathlib.Path, ...], index: int
) -> tuple[str, dict]:
    """Return an example's name, and its features with the images as PNG bytes."""
    name = example_name(split, index)
    example = draw_example(kind, split, index, layouts)
    return name, {"name": name, **{key: png.encode(value) for key, value in example.items()}}
