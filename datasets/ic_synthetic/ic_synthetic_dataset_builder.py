"""TFDS builder of the synthetic IC micrographs, generated without TensorFlow."""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import zlib

import cv2
import numpy as np
import tensorflow_datasets.public_api as tfds
from eal_icnet_jax.datasets.ic_synthetic import layout, micrograph
from etils import epath

from eal_icnet_jax import images

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
    """One kind of data.

    size: of the square images, in pixels.
    optical: an RGB bright-field image, else a grey scanning electron micrograph.
    label: "metal" or "via": what the label marks.
    via_label: whether vias have a mask of their own.
    compressed: whether images went through JPEG before.
    without_vias: fraction of images that have no via.
    images: number in train, validation and test.
    seed: of everything that is drawn.
    """

    size: int = 512
    optical: bool
    label: str = "metal"
    via_label: bool = False
    compressed: bool = False
    without_vias: float = 0.0
    images: tuple[int, int, int] = (400, 50, 50)
    seed: int = 0


def draw_example(config: Config, split: str, index: int) -> dict[str, np.ndarray]:
    """One example, a function of the config, its seed, the split and the index alone.

    Returns:
      image `[size, size, 3]` or `[size, size, 1]` uint8, label (and via_label) `[size, size, 1]`
      uint8 of 0 and 255.
    """
    key = [config.seed, zlib.crc32(config.name.encode()), SPLITS.index(split), index]
    rng = np.random.default_rng(key)
    size = config.size
    pitch = layout.draw_pitch(rng)
    blocks = int(rng.integers(0, 4))
    metal_layer = layout.random_layer(rng, size, pitch, blocks=blocks, angle=rng.normal(0, 0.01))
    if rng.random() < config.without_vias:
        metal_layer.vias.clear()
    lower_layer = layout.random_layer(
        rng, size, pitch * rng.uniform(0.8, 1.8), blocks=1, angle=rng.normal(0, 0.01)
    )
    etched = functools.partial(
        micrograph.shaped,
        rng,
        rounding=pitch * rng.uniform(0.02, 0.06),
        roughness=rng.uniform(0.15, 0.45) if config.optical else rng.uniform(0.3, 0.6),
    )
    metal = etched(layout.signed_distance(layout.rasterize_metal(metal_layer, size)))
    lower = layout.signed_distance(layout.rasterize_metal(lower_layer, size))
    vias = layout.signed_distance(layout.rasterize_vias(metal_layer, size))
    if config.optical:
        image = micrograph.optical_micrograph(rng, metal, lower, vias)
    else:
        image = micrograph.electron_micrograph(
            rng, metal, lower, vias, compressed=config.compressed
        )[..., None]
    masks = {"metal": metal > 0, "via": vias > 0}
    example = {"image": image, "label": masks[config.label]}
    if config.via_label:
        example["via_label"] = masks["via"]
    return {
        key: value if key == "image" else 255 * value[..., None].astype(np.uint8)
        for key, value in example.items()
    }


def _one_thread():
    """Worker processes share the cores already; OpenCV's threads would only contend."""
    cv2.setNumThreads(1)


def _encoded_example(config: Config, split: str, index: int) -> tuple[str, dict]:
    name = f"{split}_{index:05d}"
    example = draw_example(config, split, index)
    return name, {"name": name, **{key: images.encode(value) for key, value in example.items()}}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Features: image, label, name, and via_label where the config has one."""

    # The README, citation and tags lie beside this file, in a checkout as in a wheel.
    pkg_dir_path = epath.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        Config(
            name="optical_circuit", description="Optical micrographs, metal labelled.", optical=True
        ),
        Config(
            name="optical_via",
            description="Optical micrographs, vias labelled; some images have none.",
            optical=True,
            label="via",
            without_vias=0.08,
            images=(240, 30, 30),
        ),
        Config(
            name="sem_circuit",
            description="Scanning electron micrographs after JPEG, metal labelled.",
            optical=False,
            compressed=True,
        ),
        Config(
            name="sem_metal_via",
            description="Scanning electron micrographs, metal and vias labelled apart.",
            optical=False,
            via_label=True,
            size=1024,
            images=(80, 10, 10),
        ),
        Config(
            name="tiny",
            description="A few small optical micrographs, to try things in seconds.",
            optical=True,
            size=96,
            images=(8, 3, 3),
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        mask = tfds.features.Image(shape=(config.size, config.size, 1), encoding_format="png")
        channels = 3 if config.optical else 1
        features = {
            "image": tfds.features.Image(
                shape=(config.size, config.size, channels), encoding_format="png"
            ),
            "label": mask,
            "name": tfds.features.Text(),
        }
        if config.via_label:
            features["via_label"] = mask
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            split: self._generate_examples(split, count)
            for split, count in zip(SPLITS, self.builder_config.images, strict=True)
        }

    def _generate_examples(self, split: str, count: int):
        draw = functools.partial(_encoded_example, self.builder_config, split)
        # Encoded bytes, not arrays: TFDS encodes arrays with TensorFlow.
        workers = min(len(os.sched_getaffinity(0)), count)
        if workers < 2:
            yield from map(draw, range(count))
            return
        # `spawn`, because the threads of JAX and TensorFlow do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context, _one_thread) as pool:
            yield from pool.map(draw, range(count), chunksize=4)
