"""Optical photographs of dies of every kind, rendered from their geometry.

Colours are RGB floats from 0 to 255. Unlike `micrograph.optical_micrograph`, which shows one kind
of clean die, these vary in all that real photographs were found to vary in.
"""

import colorsys
import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
from scipy.special import ndtr

from eal_icnet_jax.datasets.ic_synthetic import camera
from eal_icnet_jax.datasets.ic_synthetic.fields import (
    band,
    blend,
    random_field,
    specks,
    with_lateral_colour,
)
from eal_icnet_jax.datasets.ic_synthetic.geometry import Range
from eal_icnet_jax.datasets.ic_synthetic.photograph_geometry import Distances


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpticalRanges:
    """Ranges from which each optical photograph draws its look. Fractions are of the images.

    Attributes:
      same_brightness: fraction, of the images with little metal, whose metal has about the
        brightness of the ground, between dark outlines, which then are deeper than those of lower
        layers.
      little_metal: largest part of an image that is such metal. Where more is metal, nothing would
        tell on which side of an outline it lies.
      see_through: how much the metal of those takes on the colours of what lies below.
      dark_metal: fraction, of the other images, whose metal is darker than the ground.
      saturation: of the colours of ground and lower layers.
      metal_saturation: of the colour of the metal.
      lower_opacity: how much a lower layer's colour shows; 1 is as visible as the metal.
      lower_outline: depth of the dark outline of a lower layer.
      contacts: fraction that shows contacts between lower layers.
      contact_depth: how much darker their rims are; inside, they may be darker or brighter.
      relief: how much lower layers show through the metal.
      creases: depth of the dark lines in the metal above the edges of lower layers.
      patches: standard deviation of the metal's brightness from wire to wire, relative.
      outline: depth of the dark outline of the metal; 1 is black.
      outline_width: relative to the wire's width.
      slanted_light: how much darker the outline is on one side.
      lower_brightness: largest brightness of a lower layer below bright metal, relative to it.
      stripes: fraction that shows the traces of a removed layer.
      stripe_brightness: how much brighter the metal is in such traces.
      stripe_opacity: how much of their own, pale colour such traces have beside the metal.
      grain: standard deviation of the metal's brightness, relative.
      pits: number of dark pits in the metal in an area of 512x512 pixels.
      via_styles: number of different looks that the vias of an image have.
      via_shading: standard deviation of the brightness within a via, relative.
      dimples: fraction of those looks that are the metal itself inside a dark rim.
      bond_wires: fraction with bond wires above the metal.
      dirt: mean number of specks in an area of 512x512 pixels.
      residue: fraction with films of residue.
      lateral_colour: largest shift in pixels of red and blue.
    """

    same_brightness: float = 0.55
    little_metal: float = 0.3
    see_through: Range = (-0.3, 1)
    dark_metal: float = 0.06
    saturation: Range = (0, 0.55)
    metal_saturation: Range = (0, 0.2)
    lower_opacity: Range = (0.05, 1)
    lower_outline: Range = (0, 0.7)
    contacts: float = 0.5
    contact_depth: Range = (0.1, 0.8)
    relief: Range = (0, 0.7)
    creases: Range = (0, 0.6)
    patches: Range = (0, 0.15)
    outline: Range = (0.05, 0.9)
    outline_width: Range = (0.06, 0.5)
    slanted_light: Range = (0, 0.7)
    lower_brightness: Range = (0.6, 0.95)
    stripes: float = 0.4
    stripe_brightness: Range = (0.05, 0.35)
    stripe_opacity: Range = (0, 0.9)
    grain: Range = (0, 0.06)
    pits: Range = (0, 160)
    via_styles: tuple[int, int] = (1, 3)
    via_shading: Range = (0, 0.25)
    dimples: float = 0.25
    bond_wires: float = 0.1
    dirt: Range = (0, 14)
    residue: float = 0.25
    lateral_colour: float = 0.8


def _colour(rng: np.random.Generator, saturation: Range, value: Range) -> np.ndarray:
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return 255 * np.array(colour)


def _brightness(colour: np.ndarray) -> float:
    return float(colour @ (0.299, 0.587, 0.114))


class _Metal(NamedTuple):
    """How the metal of an image differs from its ground.

    colour: RGB.
    is_outlined: whether only its outline shows it.
    see_through: part of its colour that is that of what lies below.
    """

    colour: np.ndarray
    is_outlined: bool = False
    see_through: float = 0.0


def _draw_metal(
    rng: np.random.Generator, ground: np.ndarray, part: float, ranges: OpticalRanges
) -> _Metal:
    """Return the look of the metal above a ground.

    Args:
      ground: its colour.
      part: of the image that is metal.
    """
    if rng.random() < ranges.same_brightness and part <= ranges.little_metal:
        metal = _colour(rng, (0, 0.35), (0.5, 1))
        metal *= _brightness(ground) / _brightness(metal) * rng.uniform(0.7, 1.15)
        return _Metal(metal, True, max(rng.uniform(*ranges.see_through), 0))
    if rng.random() < ranges.dark_metal:
        metal = _colour(rng, (0, 0.4), (0.12, 0.36))
        return _Metal(np.clip(np.minimum(metal, ground - rng.uniform(15, 60)), 0, None))
    metal = _colour(rng, ranges.metal_saturation, (0.75, 1))
    return _Metal(np.maximum(metal, ground + rng.uniform(15, 60)))


def _no_brighter(colour: np.ndarray, brightness: float) -> np.ndarray:
    return colour * min(1, brightness / max(_brightness(colour), 1))


def _over_lower_layers(
    rng, ground, metal: _Metal, distances: Distances, deepest: float, ranges: OpticalRanges
):
    """Return the ground with the lower layers in it, each with its colour and outline.

    Args:
      ground: its colour.
      deepest: bound of the depth of the outlines.
    """
    metal_brightness = _brightness(metal.colour)
    is_bright = metal_brightness > _brightness(ground) and not metal.is_outlined
    size, width = len(distances.metal), distances.wire_width
    image = ground + rng.uniform(0, 7) * random_field(rng, size, 120.0)[..., None]
    for lower in distances.lower:
        opacity = rng.uniform(*ranges.lower_opacity)
        opacity *= rng.uniform(0.5 if metal.is_outlined else 0.2, 1)
        colour = _colour(rng, ranges.saturation, (0.25, 0.95))
        if is_bright:
            colour = _no_brighter(colour, metal_brightness * rng.uniform(*ranges.lower_brightness))
        edge = max(0.5, 0.08 * width * rng.random())
        image = blend(image, colour, opacity * ndtr(lower / edge))
        outline = min(rng.uniform(*ranges.lower_outline) * opacity, deepest)
        line = band(lower, 0, max(0.7, 0.12 * width * rng.random()))
        image = image * (1 - outline * line)[..., None]
    if rng.random() < ranges.contacts:
        image = _with_contacts(rng, image, distances, deepest, ranges)
    return image


def _with_contacts(rng, image, distances: Distances, deepest: float, ranges: OpticalRanges):
    """Return the image with contacts of lower layers: dots, or rings around a dot.

    Args:
      deepest: bound of the depth of their rims.
    """
    contacts = distances.contacts
    radius = max(float(contacts.max()), 1.0)
    depth = min(rng.uniform(*ranges.contact_depth), deepest)
    inside = ndtr((contacts - rng.uniform(0, 0.5) * radius) / max(0.5, 0.2 * radius))
    image = image * (1 + rng.uniform(-0.6, 0.3) * depth * inside)[..., None]
    rim = depth * band(contacts, 0, max(0.7, 0.3 * radius * rng.random()))
    return image * (1 - rim)[..., None]


def _metal_surface(rng, metal: _Metal, below: np.ndarray, distances, ranges: OpticalRanges):
    """Return the metal's brightness and colour where it is flat."""
    size, width = len(distances.metal), distances.wire_width
    grain = 1 + rng.uniform(*ranges.grain) * random_field(rng, size, 1.2)
    grain += 0.025 * random_field(rng, size, 40.0)
    grain += rng.uniform(*ranges.patches) * random_field(rng, size, width * rng.uniform(1, 8))
    for lower in distances.lower:
        crease = rng.uniform(*ranges.creases) * rng.random()
        line = band(lower, 0, max(0.7, 0.15 * width * rng.random()))
        grain = grain * (1 - crease * line)
    relief = below.mean(-1)
    relief = (relief - relief.mean()) / max(relief.mean(), 1)
    tint = metal.colour / max(_brightness(metal.colour), 1)
    colour = metal.colour + metal.see_through * (below * tint * rng.uniform(0.7, 1) - metal.colour)
    surface = colour * (grain + rng.uniform(*ranges.relief) * rng.random() * relief)[..., None]
    pits = specks(rng, size, int(rng.uniform(*ranges.pits) * (size / 512) ** 2), (0.7, 1.8))
    return surface * (1 - rng.uniform(0.2, 0.5) * pits[..., None])


def _with_outline(rng, image, distances: Distances, ground: np.ndarray, depth: float, ranges):
    """Return the image with the slopes of the metal's edges, darker than the ground."""
    metal, width = distances.metal, distances.wire_width
    half = float(np.clip(0.5 * width * rng.uniform(*ranges.outline_width), 0.6, 6))
    line = band(metal, -half * rng.uniform(0.5, 1.3), half)
    smooth = cv2.GaussianBlur(metal, (0, 0), 1.0)
    slopes = np.stack([cv2.Sobel(smooth, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1))], -1)
    angle = rng.uniform(0, 2 * np.pi)
    light = slopes @ np.array([np.cos(angle), np.sin(angle)], np.float32)
    line = np.clip(line * depth * (1 + rng.uniform(*ranges.slanted_light) * light), 0, 0.97)
    dark = _colour(rng, (0, 0.7), (0, 0.3))
    return blend(image, _no_brighter(dark, 0.5 * _brightness(ground)), line)


def _via_colour(rng: np.random.Generator, metal: float) -> np.ndarray:
    """Return the colour of a via that differs in brightness from the metal around it."""
    colour = _colour(rng, (0, 0.7), (0.4, 1))
    is_dark = rng.random() < 0.7 or metal > 190
    brightness = metal * rng.uniform(0.1, 0.72) if is_dark else rng.uniform(metal + 40, 255)
    return np.clip(colour * brightness / max(_brightness(colour), 1), 0, 255)


def _with_vias(rng, image, distances: Distances, metal: np.ndarray, ranges: OpticalRanges):
    """Return the image with vias: dots, rings or dimples, of one or several looks."""
    vias = distances.vias
    count, regions = cv2.connectedComponents((vias > 0).astype(np.uint8))
    if count < 2:
        return image
    # The look of the nearest via, also around it.
    grown = cv2.dilate(regions.astype(np.float32), np.ones((9, 9))).astype(int)
    looks = rng.integers(0, rng.integers(ranges.via_styles[0], ranges.via_styles[1] + 1), count)
    radius = max(float(vias.max()), 1.0)
    for look in np.unique(looks):
        here = (looks == look)[grown] & (grown > 0)
        is_dimple = rng.random() < ranges.dimples
        if not is_dimple:
            core = _via_colour(rng, _brightness(metal))
            opacity, edge = rng.uniform(0.4, 0.95), max(0.5, 0.2 * radius * rng.random())
            inset = rng.uniform(0, 0.5) * radius
            shades = random_field(rng, len(image), radius * rng.uniform(0.3, 1))
            core = core * (1 + rng.uniform(*ranges.via_shading) * shades)[..., None]
            image = blend(image, core, here * opacity * ndtr((vias - inset) / edge))
        depth = rng.uniform(0.35, 0.8) if is_dimple else rng.uniform(0, 0.6)
        rim = depth * band(vias, 0, max(0.7, 0.25 * radius * rng.random()))
        image = image * (1 - here * rim)[..., None]
        if rng.random() < 0.3:
            glint = rng.uniform(0.4, 0.9) * ndtr((vias - 0.6 * radius) / max(0.5, 0.15 * radius))
            image = blend(image, np.array([245.0, 245, 235]), here * glint)
    return image


def _with_dirt(rng, image: np.ndarray, ranges: OpticalRanges) -> np.ndarray:
    """Return the image with dust, glints and films of residue."""
    size = len(image)
    count = rng.poisson(rng.uniform(*ranges.dirt) * (size / 512) ** 2)
    dust = specks(rng, size, count, (1.0, 7.0))
    image = image * (1 - rng.uniform(0.3, 0.9) * dust)[..., None]
    glints = specks(rng, size, count // 4, (1.0, 3.0))
    image = blend(image, np.array([240.0, 240, 235]), 0.8 * glints)
    if rng.random() < ranges.residue:
        film = ndtr((random_field(rng, size, rng.uniform(15, 80)) - rng.uniform(0.8, 1.6)) / 0.15)
        image = blend(image, image * _colour(rng, (0, 0.5), (0.6, 0.95)) / 255, film)
    return image


def _with_bond_wires(rng, image: np.ndarray) -> np.ndarray:
    """Return the image with thick, dark wires across it that end in bright, flat bonds."""
    size = len(image)
    for _ in range(rng.integers(1, 4)):
        band = np.zeros((size, size), np.float32)
        start, end = rng.uniform(-0.2, 1.2, (2, 2)) * size
        half = size * rng.uniform(0.02, 0.08)
        points = [tuple(map(int, point)) for point in (start, end)]
        cv2.line(band, *points, 1.0, int(2 * half))
        cv2.circle(band, points[1], int(1.3 * half), 1.0, -1)
        band = cv2.GaussianBlur(band, (0, 0), max(1.0, 0.1 * half))
        image = blend(image, _colour(rng, (0, 0.3), (0.05, 0.25)), 0.97 * band)
        core = np.zeros((size, size), np.float32)
        cv2.ellipse(core, points[1], (int(half), int(0.7 * half)), 0, 0, 360, 1.0, -1)
        core = cv2.GaussianBlur(core, (0, 0), max(1.0, 0.2 * half))
        image = blend(image, _colour(rng, (0, 0.3), (0.5, 0.95)), rng.uniform(0.4, 0.9) * core)
    return image


def optical_photograph(
    rng: np.random.Generator,
    distances: Distances,
    ranges: OpticalRanges,
    camera_ranges: camera.CameraRanges,
) -> np.ndarray:
    """Render an optical photograph.

    Args:
      rng: random numbers of this image.
      distances: its geometry.
      ranges: of its look.
      camera_ranges: of its camera.

    Returns:
      RGB uint8 `[size, size, 3]`.
    """
    ground = _colour(rng, ranges.saturation, (0.2, 0.85))
    metal = _draw_metal(rng, ground, float(np.mean(distances.metal > 0)), ranges)
    shallowest, deepest = ranges.outline
    outline = rng.uniform(max(0.55 if metal.is_outlined else 0.05, shallowest), deepest)
    deepest_below = 0.7 * outline if metal.is_outlined else 1.0
    below = _over_lower_layers(rng, ground, metal, distances, deepest_below, ranges)
    surface = _metal_surface(rng, metal, below, distances, ranges)
    if rng.random() < ranges.stripes:
        trace = ndtr(distances.removed / 1.0)
        surface = surface * (1 + rng.uniform(*ranges.stripe_brightness) * trace)[..., None]
        pale = _no_brighter(_colour(rng, (0, 0.35), (0.6, 1)), _brightness(metal.colour))
        below = blend(below, pale, rng.uniform(*ranges.stripe_opacity) * trace)
    edge = max(0.5, 0.06 * distances.wire_width * rng.random())
    image = blend(below, surface, ndtr(distances.metal / edge))
    image = _with_outline(rng, image, distances, ground, outline, ranges)
    image = _with_vias(rng, image, distances, metal.colour, ranges)
    image = _with_dirt(rng, image, ranges)
    if rng.random() < ranges.bond_wires:
        image = _with_bond_wires(rng, image)
    image = with_lateral_colour(rng, image.astype(np.float32), ranges.lateral_colour * rng.random())
    return camera.photographed(rng, image, distances.wire_width, camera_ranges)
