"""Drawn photographs: what their ranges say is what the images show."""

import dataclasses

import cv2
import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import camera, examples
from eal_icnet_jax.datasets.ic_synthetic.electron_photograph import (
    ElectronRanges,
    electron_photograph,
)
from eal_icnet_jax.datasets.ic_synthetic.optical_photograph import OpticalRanges, optical_photograph
from eal_icnet_jax.datasets.ic_synthetic.photograph_geometry import (
    Distances,
    GeometryRanges,
    draw_distances,
    find_layouts,
    real_layout,
)
from eal_icnet_jax.imaging.wire_width import median_wire_width
from eal_icnet_jax.system.errors import UserError

SIZE = 128
CLEAN = camera.CameraRanges(
    blur=(0, 0), noise=(0, 0), demosaiced=0, resampled=0, sharpened=0, full_contrast=1,
    gamma=(1, 1), compressed=0, palettes=0,
)  # fmt: skip
"""A camera that changes nothing but the contrast."""


def wire(width: int = 16) -> Distances:
    """A vertical wire in the middle, without vias, on a ground without layers."""
    x = np.arange(SIZE, dtype=np.float32) - SIZE / 2
    metal = np.repeat((width / 2 - np.abs(x))[None], SIZE, 0)
    empty = np.full((SIZE, SIZE), -64, np.float32)
    return Distances(metal, empty, (empty,), empty, empty, width)


@pytest.fixture
def layouts(tmp_path):
    """A folder of one layout: wires of 6 pixels with vias."""
    metal, vias = np.zeros((2, 300, 500), np.uint8)
    for top in range(10, 290, 20):
        metal[top : top + 6, 5:495] = 255
        vias[top + 1 : top + 5, 50:54] = 255
    cv2.imwrite(str(tmp_path / "chip.png"), metal)
    cv2.imwrite(str(tmp_path / "chip_via.png"), vias)
    return tmp_path


@pytest.mark.parametrize("width", [5, 12, 30, 70])
def test_wires_have_the_width_that_is_drawn(width):
    ranges = GeometryRanges(wire_width=(width, width), via_pad=(1.1, 1.2), rounding=(0.01, 0.02))
    found = []
    for seed in range(12):
        distances = draw_distances(np.random.default_rng(seed), 384, ranges)
        assert distances.wire_width == pytest.approx(width)
        if measured := median_wire_width(distances.metal > 0):
            found.append(measured)
    assert width * 0.8 < np.median(found) < width * 1.8  # a layer also has wider lines


def test_vias_differ_in_size_as_much_as_they_should():
    def sizes(spread):
        ranges = GeometryRanges(
            wire_width=(10, 10), via_spread=(spread, spread), kept_vias=(1, 1), bars=0, rows=0,
            wide=0, real=0, roughness=(0, 0), rounding=(0.01, 0.02),
        )  # fmt: skip
        found = []
        for seed in range(6):
            vias = draw_distances(np.random.default_rng(seed), 384, ranges).vias
            _, _, boxes, _ = cv2.connectedComponentsWithStats((vias > 0).astype(np.uint8))
            inside = (boxes[1:, :2] > 0).all(1) & (boxes[1:, :2] + boxes[1:, 2:4] < 384).all(1)
            area = boxes[1:, cv2.CC_STAT_AREA][inside]
            if len(area) > 10:
                found.append(np.sqrt(np.percentile(area, 80) / np.percentile(area, 20)))
        assert len(found) >= 3
        return np.median(found)

    # The blocks of a layer differ in size too.
    assert sizes(2.5) > 1.25 * sizes(0.7)


def test_a_real_layout_is_shown_in_the_width_that_is_drawn(layouts):
    paths = find_layouts(layouts)
    assert [path.name for path in paths] == ["chip.png"]
    assert real_layout(paths[0]).wire_width == pytest.approx(6, abs=0.5)
    ranges = GeometryRanges(wire_width=(9, 9), real=1, rotated=0, tilt=0, roughness=(0, 0))
    vias = 0
    for seed in range(6):
        distances = draw_distances(np.random.default_rng(seed), 256, ranges, paths)
        assert median_wire_width(distances.metal > 0) == pytest.approx(9, abs=1)
        inside = distances.vias > 0
        assert (distances.metal[inside] > -0.5).all()
        vias += inside.sum()
    assert vias


def test_a_folder_without_metal_is_refused(layouts, tmp_path):
    (layouts / "chip.png").unlink()
    with pytest.raises(UserError, match="holds vias only: add the masks of their metal"):
        find_layouts(layouts)
    cv2.imwrite(str(layouts / "chip.png"), np.zeros((300, 500), np.uint8))
    with pytest.raises(UserError, match="has no metal: remove it"):
        real_layout(layouts / "chip.png")


def levels(distances: Distances, ranges, seed: int) -> tuple[float, float]:
    """Return the mean level of the metal's middle and of the ground, without the edges."""
    rng = np.random.default_rng(seed)
    if isinstance(ranges, OpticalRanges):
        image = cv2.cvtColor(optical_photograph(rng, distances, ranges, CLEAN), cv2.COLOR_RGB2GRAY)
    else:
        image = electron_photograph(rng, distances, ranges, CLEAN)
    far = distances.metal < -30
    return float(image[distances.metal > 5].mean()), float(image[far].mean())


QUIET = {
    "dirt": (0, 0), "residue": 0, "bond_wires": 0, "stripes": 0, "pits": (0, 0),
    "creases": (0, 0), "patches": (0, 0), "relief": (0, 0),
}  # fmt: skip
STILL = {"damaged": 0, "charging": (0, 0), "texture": (0, 0), "scratches": 0, "streaks": (0, 0)}


@pytest.mark.parametrize(
    ("ranges", "sign"),
    [
        (OpticalRanges(same_brightness=0, dark_metal=0, **QUIET), 1),
        (OpticalRanges(same_brightness=0, dark_metal=1, **QUIET), -1),
        (ElectronRanges(dark_metal=0, edge_glow=(0, 0), **STILL), 1),
        (ElectronRanges(dark_metal=1, edge_glow=(0, 0), **STILL), -1),
    ],
    ids=["bright", "dark", "bright SEM", "dark SEM"],
)
def test_metal_is_brighter_or_darker_than_the_ground(ranges, sign):
    for seed in range(8):
        metal, ground = levels(wire(), ranges, seed)
        assert sign * (metal - ground) > 0


def test_much_metal_differs_from_the_ground():
    """Where most is metal, no outline would tell on which side it lies."""
    ranges = OpticalRanges(same_brightness=1, dark_metal=0, **QUIET)
    for seed in range(8):
        metal, ground = levels(wire(60), ranges, seed)
        assert metal > ground


def test_lines_of_other_layers_are_as_wide_as_they_should_be():
    def widest(factor):
        ranges = GeometryRanges(wire_width=(8, 8), lower_width=(factor, factor), rotated=0, real=0)
        layers = [
            layer.max()
            for seed in range(6)
            for layer in draw_distances(np.random.default_rng(seed), 256, ranges).lower
        ]
        return np.median(layers)

    assert widest(4) > 1.8 * widest(0.5)


def test_metal_of_the_ground_s_brightness_shows_by_its_outlines():
    distances = wire()
    ranges = OpticalRanges(
        same_brightness=1,
        dark_metal=0,
        slanted_light=(0, 0),
        outline=(0.6, 0.9),
        outline_width=(0.06, 0.3),
        **QUIET,
    )
    for seed in range(8):
        image = optical_photograph(np.random.default_rng(seed), distances, ranges, CLEAN)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
        columns, near = grey.mean(0), np.abs(distances.metal[0]) < 6
        assert columns[near].min() < columns[distances.metal[0] > 5].mean() - 12
        assert columns[near].min() < columns[distances.metal[0] < -20].mean() - 20


@pytest.mark.parametrize("wide", [0, 1])
def test_some_images_have_parts_with_much_wider_wires(wide):
    ranges = GeometryRanges(
        wire_width=(6, 6), wide=wide, wide_factor=(8, 8), via_spread=(1, 1), rotated=0, real=0
    )
    widest = []
    for seed in range(16):
        metal = draw_distances(np.random.default_rng(seed), 256, ranges).metal
        widest.append(2 * metal.max())
    assert (np.median(widest) > 40) == bool(wide)


def test_vias_stand_in_rows_on_metal():
    counts = []
    for rows in (0, 1):
        ranges = GeometryRanges(
            wire_width=(10, 10), rows=rows, bars=0, wide=0, kept_vias=(1, 1), via_spread=(1, 1)
        )
        count = 0
        for seed in range(8):
            distances = draw_distances(np.random.default_rng(seed), 256, ranges)
            found, _ = cv2.connectedComponents((distances.vias > 0).astype(np.uint8))
            count += found - 1
            assert (distances.metal[distances.vias > 1] > 0).all()
        counts.append(count)
    assert counts[1] > 1.3 * counts[0]


def test_contacts_of_lower_layers_are_dark_rims_on_the_ground():
    x = np.arange(SIZE, dtype=np.float32)
    contacts = 8 - np.hypot(x[:, None] - 64, x[None] - 24)
    distances = wire()._replace(contacts=contacts)
    for seed in range(6):
        rims = []
        for fraction in (0, 1):
            ranges = OpticalRanges(
                same_brightness=0, contacts=fraction, contact_depth=(0.5, 0.5), **QUIET
            )
            image = optical_photograph(np.random.default_rng(seed), distances, ranges, CLEAN)
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
            near = (contacts < -6) & (contacts > -12)
            rims.append(grey[np.abs(contacts) < 1].mean() / grey[near].mean())
        assert rims[1] < 0.85 < rims[0]


def test_a_lower_layer_has_contacts_within_the_image():
    ranges = GeometryRanges(wire_width=(12, 12), real=0)
    contacts = [draw_distances(np.random.default_rng(k), 256, ranges).contacts for k in range(6)]
    assert sum((distance > 0).any() for distance in contacts) >= 4


def round_via(radius: float) -> Distances:
    """A via in the middle of a wire."""
    x = np.arange(SIZE, dtype=np.float32) - SIZE / 2
    return wire()._replace(vias=radius - np.hypot(x[:, None], x[None]))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "ranges",
    [
        OpticalRanges(same_brightness=0, slanted_light=(0, 0), **QUIET),
        OpticalRanges(same_brightness=1, slanted_light=(0, 0), **QUIET),
        ElectronRanges(glaring=0, **STILL),
        ElectronRanges(glaring=1, **STILL),
    ],
    ids=["optical", "outlined", "SEM", "glaring SEM"],
)
def test_every_labelled_via_can_be_seen(ranges, seed):
    distances = round_via(5)
    rng = np.random.default_rng(seed)
    if isinstance(ranges, OpticalRanges):
        image = optical_photograph(rng, distances, ranges, CLEAN)
    else:
        image = electron_photograph(rng, distances, ranges, CLEAN)[..., None]
    across, beside = image[SIZE // 2].astype(float), image[12:20].mean(0)
    assert np.abs(across - beside)[distances.vias[SIZE // 2] > 0].max() > 15


def test_vias_are_flat_or_shaded():
    distances = round_via(7)

    def deviation(shading):
        ranges = OpticalRanges(
            same_brightness=0, dimples=0, via_shading=(shading, shading), grain=(0, 0), **QUIET
        )
        found = []
        for seed in range(12):
            image = optical_photograph(np.random.default_rng(seed), distances, ranges, CLEAN)
            inside = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[distances.vias > 5].astype(float)
            found.append(inside.std() / inside.mean())
        return np.median(found)

    assert deviation(0.25) > 2 * deviation(0)


def test_glaring_vias_outshine_the_metal():
    distances = round_via(5)
    ranges = ElectronRanges(
        glaring=1, glare=(3, 3), dark_metal=0, edge_glow=(0, 0), **STILL
    )  # fmt: skip
    image = electron_photograph(np.random.default_rng(0), distances, ranges, CLEAN).astype(float)
    metal = image[(distances.metal > 4) & (distances.vias < -30)].mean()
    assert image[distances.vias > 2].mean() > metal + 60


@pytest.mark.parametrize(
    "change",
    [
        {"blur": (0.3, 0.3)}, {"noise": (0.2, 0.2)}, {"demosaiced": 1}, {"resampled": 1},
        {"sharpened": 1}, {"contrast": (0.05, 0.05), "full_contrast": 0}, {"gamma": (1.6, 1.6)},
        {"compressed": 1, "quality": (30, 31)}, {"palettes": 1},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_each_camera_fault_shows(change):
    image = optical_photograph(
        np.random.default_rng(3), wire(), OpticalRanges(**QUIET), CLEAN
    ).astype(np.float32)
    clean, faulty = (
        camera.photographed(np.random.default_rng(0), image, 16, ranges)
        for ranges in (CLEAN, dataclasses.replace(CLEAN, **change))
    )
    assert faulty.shape == clean.shape and faulty.dtype == np.uint8
    assert not np.array_equal(faulty, clean)
    if "contrast" in change:
        assert np.ptp(faulty.astype(int)) < 0.1 * 255 * 1.3


def test_photographs_show_metal_and_ground(layouts):
    paths = find_layouts(layouts)
    for name in ("optical_photographs", "sem_photographs"):
        kind = dataclasses.replace(examples.kind_by_name(name), size=128)
        for index in range(6):
            example = examples.draw_example(kind, "train", index, paths)
            low, high = examples.METAL_FRACTION
            assert low < np.mean(example["label"] > 0) < high
