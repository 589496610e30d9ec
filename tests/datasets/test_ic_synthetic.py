"""The drawn dataset: exact masks, micrographs as measured, reproducible from a seed."""

import dataclasses

import cv2
import numpy as np
import pytest
from scipy.special import ndtri
from tensorflow_datasets.core import shuffle

from eal_icnet_jax.data import prepared_datasets
from eal_icnet_jax.datasets.ic_synthetic import (
    examples,
    geometry,
    ic_synthetic_dataset_builder,
    micrograph,
    random_layers,
    rasterization,
    styles,
)
from tests import small_config
from tests.imaging.sample_images import pixels

KINDS = {kind.name: kind for kind in examples.KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_examples_have_the_declared_form(name):
    kind = KINDS[name]
    example = examples.draw_example(kind, "train", 0)
    size = (kind.size, kind.size)
    assert example["image"].shape == (*size, 3 if kind.optical else 1)
    assert set(example) == {"image", "label"} | ({"via_label"} if kind.via_label else set())
    for key, value in example.items():
        assert value.dtype == np.uint8
        if key != "image":
            assert value.shape == (*size, 1) and set(np.unique(value)) <= {0, 255}


def test_an_example_is_a_function_of_seed_split_and_index():
    kind = KINDS["tiny"]
    first = examples.draw_example(kind, "train", 3)
    again = examples.draw_example(kind, "train", 3)
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
    others = [
        examples.draw_example(kind, "train", 4),
        examples.draw_example(kind, "test", 3),
        examples.draw_example(dataclasses.replace(kind, seed=1), "train", 3),
    ]
    for other in others:
        assert not np.array_equal(first["image"], other["image"])


def test_more_examples_than_tfds_shuffles_in_memory_are_prepared(tmp_path, monkeypatch):
    """TensorFlow, with which TFDS would shuffle them in files, is not installed here."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    monkeypatch.setattr(ic_synthetic_dataset_builder, "SHARD", 3)
    dataset = small_config.on(tmp_path).dataset
    prepared_datasets.prepare(dataset)
    source = prepared_datasets.open_split(dataset, "train")
    names = [source[k]["name"].decode() for k in range(len(source))]
    assert sorted(names) == [f"train_{index:05d}" for index in range(8)] != names
    assert len(list(tmp_path.rglob("*train.array_record*"))) == 3


def test_prepared_files_hold_the_drawn_examples(data_dir):
    """Worker processes drew and TFDS stored the same examples that this process draws."""
    dataset = small_config.on(data_dir).dataset
    for split, count in (("train", 8), ("validation", 3), ("test", 3)):
        source = prepared_datasets.open_split(dataset, split)
        names = {source[k]["name"].decode(): source[k] for k in range(len(source))}
        assert len(names) == count
        index = count - 1
        stored = names[f"{split}_{index:05d}"]
        drawn = examples.draw_example(KINDS["tiny"], split, index)
        np.testing.assert_array_equal(pixels(stored["image"]), drawn["image"])
        np.testing.assert_array_equal(pixels(stored["label"]), drawn["label"][..., 0])


def test_line_pitch_is_that_of_real_chips():
    rng = np.random.default_rng(0)
    pitches = [random_layers.draw_pitch(rng) for _ in range(2000)]
    assert np.median(pitches) == pytest.approx(51, rel=0.05)
    assert min(pitches) >= 27 and max(pitches) <= 128


def test_edge_profile_is_the_measured_one():
    """10-90% rise 1.44 px, overshoot 16% 2 px inside and settled by 8, halo 19% outside."""
    distance = np.linspace(-30, 30, 60001)
    profile = micrograph.edge_profile(distance)
    assert profile[0] == pytest.approx(0, abs=1e-3) and profile[-1] == pytest.approx(1, abs=0.01)
    assert profile.max() == pytest.approx(1.16, abs=0.01)
    assert distance[profile.argmax()] == pytest.approx(2, abs=0.3)
    assert abs(profile[distance > 8][0] - 1) < 0.02
    assert profile.min() == pytest.approx(-0.19, abs=0.02)
    below = distance[profile < -0.19 / 2]
    assert np.ptp(below) == pytest.approx(4, abs=0.6)
    assert 2 * ndtri(0.9) * micrograph.EDGE_SIGMA == pytest.approx(1.44, abs=0.01)


def test_noise_is_over_dispersed_poisson():
    rng = np.random.default_rng(0)
    for mean in (40.0, 150.0):
        counts = micrograph.over_dispersed(rng, np.full(200_000, mean))
        assert counts.mean() == pytest.approx(mean, rel=0.01)
        assert counts.var() == pytest.approx(1.9 * mean, rel=0.03)


def test_grey_levels_are_those_of_miic():
    """Mean and deviation, and the levels of the dark and the bright phase, over some images."""
    measured = []
    for index in range(24):
        example = examples.draw_example(KINDS["sem_circuit"], "train", index)
        image, label = example["image"][..., 0].astype(float), example["label"][..., 0] > 0
        measured.append((image.mean(), image.std(), image[~label].mean(), np.median(image[label])))
    mean, deviation, dark, bright = np.mean(measured, 0)
    assert mean == pytest.approx(94, abs=8)
    assert deviation == pytest.approx(41, abs=7)
    assert dark == pytest.approx(59, abs=5)
    assert bright == pytest.approx(146, abs=6)


def test_vias_are_bright_rings_with_dark_cores():
    size = 128
    layer = geometry.Layer(
        40.0, vias=[(64.0, 64.0, 10.0)], polygons=[geometry.box(20, 20, 108, 108)]
    )
    metal = rasterization.signed_distance(rasterization.rasterize_metal(layer, size))
    vias = rasterization.signed_distance(rasterization.rasterize_vias(layer, size))
    far = np.full((size, size), -64, np.float32)
    image = np.mean(
        [
            micrograph.electron_micrograph(
                np.random.default_rng(k), metal, far, vias, compressed=False
            )
            for k in range(20)
        ],
        0,
    )
    surroundings = image[(metal > 15) & (vias < -8)].mean()
    assert image[np.abs(vias) < 0.7].mean() > surroundings + 5
    assert image[vias > 4].mean() < surroundings - 30


def test_masks_are_exact():
    """A drawn box covers exactly its pixels."""
    layer = geometry.Layer(40.0, polygons=[geometry.box(10, 20, 49, 69)])
    distance = rasterization.signed_distance(rasterization.rasterize_metal(layer, 96))
    ys, xs = np.nonzero(distance > 0)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == pytest.approx((10, 49, 20, 69), abs=1)
    assert distance[45, 30] == pytest.approx(20, abs=1)
    assert distance[45, 5] == pytest.approx(-5, abs=0.6)


def test_parallel_lines_stay_apart():
    """Lines of a bus do not touch, so there are at least as many regions as wires."""
    rng = np.random.default_rng(1)
    layer = styles.bus(rng, 512, 512, 40.0)
    canvas = rasterization.rasterize_metal(geometry.Layer(40.0, wires=layer.wires), 512)
    inside = [
        wire for wire in layer.wires
        if random_layers.runs_inside(wire[0], (20, 20), (492, 492))
    ]  # fmt: skip
    regions = cv2.connectedComponents(canvas)[0] - 1
    assert regions >= len(inside) > 5


def test_some_via_images_have_no_via():
    kind = dataclasses.replace(KINDS["optical_via"], size=128)
    empty = [not examples.draw_example(kind, "train", index)["label"].any() for index in range(60)]
    assert 0 < sum(empty) < 60


def test_metadata_is_complete():
    info = ic_synthetic_dataset_builder.Builder(config="tiny", data_dir="unused").info
    assert "exact masks" in info.description and "ic_synthetic" in info.citation
    assert info.features["image"].shape == (96, 96, 3)
