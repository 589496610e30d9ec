"""Scanning electron photographs of dies of every kind, rendered from their geometry.

Grey levels are floats; the step from the ground to the metal is 1 until the camera.
"""

import dataclasses

import cv2
import numpy as np
from scipy.special import ndtr

from eal_icnet_jax.datasets.ic_synthetic import camera
from eal_icnet_jax.datasets.ic_synthetic.fields import band, random_field
from eal_icnet_jax.datasets.ic_synthetic.geometry import Range, log_uniform
from eal_icnet_jax.datasets.ic_synthetic.photograph_geometry import Distances

ELECTRON_CAMERA = camera.CameraRanges(
    blur=(0, 0.35), noise=(0, 0.35), demosaiced=0, resampled=0.3, sharpened=0.15, palettes=0
)
"""Camera of scanning electron microscopes: more noise and blur."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElectronRanges:
    """Ranges from which each electron photograph draws its look. Fractions are of the images.

    All brightnesses are relative to the step from the ground to the metal.

    Attributes:
      dark_metal: fraction whose metal is darker than the ground.
      edge_glow: brightness of the metal's edges above its middle.
      edge_width: of the glow, relative to the wire's width.
      halo: darkness of the ground beside the metal.
      lower: brightness of lower layers in the ground.
      lower_in_metal: part of that which shows through the metal.
      glaring: fraction whose vias are bright, saturated spots.
      glare: brightness of such vias.
      glare_reach: how far such spots reach beyond the via's edge, relative to its radius.
      glare_width: of their glow, relative to the via's radius.
      via: brightness of other vias, or how much darker they are.
      dark_vias: fraction whose vias are dark.
      ring: brightness of the rim of other vias.
      texture: standard deviation of the image's texture.
      texture_size: size of its grains in pixels; its logarithm is uniform.
      charging: standard deviation of slow changes of brightness.
      streaks: brightness of streaks along the scan beside the metal.
      damaged: fraction with rectangles that the beam has darkened or brightened.
      scan_lines: standard deviation of the brightness of scan lines.
      drift: largest shift of scan lines in pixels.
      scratches: fraction with short bright or dark lines.
    """

    dark_metal: float = 0.12
    edge_glow: Range = (0, 1.2)
    edge_width: Range = (0.05, 0.2)
    halo: Range = (0, 0.35)
    lower: Range = (0, 0.7)
    lower_in_metal: Range = (0, 0.7)
    glaring: float = 0.45
    glare: Range = (0.5, 6)
    glare_reach: Range = (0, 1.6)
    glare_width: Range = (0.05, 0.5)
    via: Range = (0.3, 1)
    dark_vias: float = 0.5
    ring: Range = (0, 0.6)
    texture: Range = (0, 0.16)
    texture_size: Range = (1.5, 30)
    charging: Range = (0, 0.25)
    streaks: Range = (0, 0.3)
    damaged: float = 0.2
    scan_lines: Range = (0, 0.08)
    drift: Range = (0, 1.2)
    scratches: float = 0.3


def _layers(rng: np.random.Generator, distances: Distances, ranges: ElectronRanges) -> np.ndarray:
    """Return ground, lower layers and metal."""
    metal, width = distances.metal, distances.wire_width
    edge = max(0.5, 0.06 * width * rng.random())
    inside = ndtr(metal / edge)
    below = np.zeros_like(metal)
    for lower in distances.lower:
        strength = rng.uniform(*ranges.lower) * rng.random() * rng.choice([1, 1, -0.6])
        below += strength * ndtr(lower / max(0.7, 0.2 * width * rng.random()))
    glow_width = max(0.6, width * rng.uniform(*ranges.edge_width))
    glow = rng.uniform(*ranges.edge_glow) * rng.random()
    glow = glow * band(metal, glow_width, glow_width) * inside
    halo_width = max(1.0, 0.3 * width * rng.random())
    halo = rng.uniform(*ranges.halo) * np.exp(metal / halo_width) * (1 - inside)
    through = rng.uniform(*ranges.lower_in_metal)
    return inside + below * (1 - inside * (1 - through)) + glow - np.minimum(halo, 0.5)


def _vias(rng: np.random.Generator, distances: Distances, ranges: ElectronRanges) -> np.ndarray:
    """Return what the vias add: glare, or dots and rings."""
    vias = distances.vias
    radius = float(vias.max())
    if radius <= 0:
        return np.zeros_like(vias)
    edge = max(0.5, 0.3 * radius * rng.random())
    if rng.random() < ranges.glaring:
        reach = radius * rng.uniform(*ranges.glare_reach) * rng.random()
        spot = ndtr((vias + reach) / edge) * log_uniform(rng, ranges.glare)
        glow = cv2.GaussianBlur(spot, (0, 0), max(0.7, radius * rng.uniform(*ranges.glare_width)))
        count, regions = cv2.connectedComponents((vias > -2 - reach).astype(np.uint8))
        strength = rng.normal(1, rng.uniform(0, 0.2), count).astype(np.float32)
        return glow * strength[regions] if rng.random() < 0.5 else glow
    rim = band(vias, 0, max(0.7, 0.3 * radius * rng.random()))
    core = ndtr((vias - rng.uniform(0, 0.4) * radius) / edge)
    sign = -1 if rng.random() < ranges.dark_vias else 1
    return sign * rng.uniform(*ranges.via) * core + rng.uniform(*ranges.ring) * rim


def _scanned(rng: np.random.Generator, image: np.ndarray, distances, ranges) -> np.ndarray:
    """Return the image with what the beam does: charging, streaks, damage, uneven lines, drift."""
    size = len(image)
    image = image + rng.uniform(*ranges.charging) * random_field(rng, size, rng.uniform(40, size))
    inside = (distances.metal > 0).astype(np.float32)
    streaks = cv2.blur(inside, (int(size * rng.uniform(0.05, 0.4)) | 1, 1))
    image = image + rng.uniform(*ranges.streaks) * rng.choice([-1, 1]) * rng.random() * streaks
    if rng.random() < ranges.damaged:
        for _ in range(rng.integers(1, 3)):
            x, y = rng.integers(-size // 4, size, 2)
            w, h = rng.integers(size // 4, size, 2)
            mask = np.zeros((size, size), np.float32)
            mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = 1
            mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.7, 6))
            image = image + rng.uniform(-0.4, 0.4) * mask
    lines = rng.normal(0, rng.uniform(*ranges.scan_lines), size)
    image = image + lines[:, None]
    shift = np.cumsum(rng.normal(0, 0.2, size))
    shift *= rng.uniform(*ranges.drift) / max(np.abs(shift).max(), 1e-6)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    moved = (x + shift[:, None]).astype(np.float32)
    return cv2.remap(
        image.astype(np.float32), moved, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _with_scratches(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    size = len(image)
    lines = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 20)):
        start = rng.integers(0, size, 2)
        end = start + rng.integers(-15, 16, 2)
        cv2.line(lines, tuple(map(int, start)), tuple(map(int, end)), rng.uniform(-0.6, 1.2), 1)
    return image + cv2.GaussianBlur(lines, (0, 0), 0.6)


def electron_photograph(
    rng: np.random.Generator,
    distances: Distances,
    ranges: ElectronRanges,
    camera_ranges: camera.CameraRanges = ELECTRON_CAMERA,
) -> np.ndarray:
    """Render a scanning electron photograph.

    Args:
      rng: random numbers of this image.
      distances: its geometry.
      ranges: of its look.
      camera_ranges: of its camera.

    Returns:
      Grey uint8 `[size, size]`.
    """
    size = len(distances.metal)
    image = _layers(rng, distances, ranges)
    if rng.random() < ranges.dark_metal:
        image = -image
    image = image + _vias(rng, distances, ranges)
    image = image + rng.uniform(*ranges.texture) * random_field(
        rng, size, log_uniform(rng, ranges.texture_size)
    )
    if rng.random() < ranges.scratches:
        image = _with_scratches(rng, image)
    image = _scanned(rng, image, distances, ranges)
    return camera.photographed(rng, 90 + 60 * image, distances.wire_width, camera_ranges)
