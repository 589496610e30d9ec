"""Micrographs of drawn layers: the look of metal edges, vias and cameras.

The scanning electron micrographs follow measurements on MIIC: a dark phase of 59 and a bright phase
of 146 of 255; an edge that rises from 10 to 90% in 1.44 pixels, overshoots by 16% of the step two
pixels inside and settles after eight, with a halo outside that is 19% darker and four pixels wide;
vias that are bright rings with dark cores; noise of 1.9 times the Poisson variance. The optical
ones add what makes optical images hard: lower layers that shine through, colour and light that vary
over the field, defocus, dust and residue.

In all functions, `rng` is a NumPy generator. `look` is a second one for what is the same all over a
die: its materials and the microscope.
"""

import cv2
import numpy as np
from scipy.special import ndtr

from eal_icnet_jax.datasets.ic_synthetic import fields
from eal_icnet_jax.imaging.jpeg import through_jpeg

EDGE_SIGMA = 0.56
"""Standard deviation of the blur of an edge, in pixels."""

OVERSHOOT, OVERSHOOT_AT = 0.16, 2.0
"""Height of the overshoot relative to the step, and its distance inside the edge in pixels."""

HALO, HALO_AT, HALO_SIGMA = 0.19, 2.4, 1.7
"""Depth of the halo relative to the step, its distance outside the edge and its width in pixels."""

NOISE_FACTOR = 1.9
"""Variance of the noise relative to that of a Poisson distribution."""

SUBSTRATES = np.array(
    [
        (176, 128, 158),  # oxide, pink
        (120, 142, 112),  # oxide, green
        (150, 128, 96),  # polyimide, brown
        (98, 116, 148),  # nitride, blue
        (132, 128, 126),  # bare silicon
        (142, 106, 122),  # thick oxide, purple
    ],
    float,
)
"""Colours of the substrate in an optical micrograph."""

METALS = np.array(
    [(226, 224, 214), (214, 206, 192), (208, 212, 216), (224, 214, 178)],  # aluminium to copper
    float,
)
"""Colours of the metal in an optical micrograph."""


def etched(
    rng: np.random.Generator, distance: np.ndarray, *, rounding: float, roughness: float
) -> np.ndarray:
    """Return the edge after etching, which rounds corners and roughens lines.

    Args:
      distance: signed distance to the drawn edge `[size, size]`, in pixels.
      rounding: standard deviation of the blur that rounds corners, in pixels.
      roughness: standard deviation of the edge in pixels.

    Returns:
      Signed distance to the etched edge. The label is where it is positive.
    """
    smooth = cv2.GaussianBlur(distance, (0, 0), rounding) if rounding else distance
    size = len(distance)
    rough = 0.8 * fields.random_field(rng, size, 5.0) + 0.6 * fields.random_field(rng, size, 14.0)
    return smooth + roughness * rough


def edge_profile(distance: np.ndarray) -> np.ndarray:
    """Return the brightness across an edge in a scanning electron micrograph.

    Args:
      distance: to the edge in pixels, positive inside.

    Returns:
      About 0 in the dark phase and 1 in the bright phase.
    """
    inside, outside = np.maximum(distance, 0), np.maximum(-distance, 0)
    relative = inside / OVERSHOOT_AT
    overshoot = OVERSHOOT * (relative * np.exp(1 - relative)) ** 1.5
    halo = HALO * fields.band(outside, HALO_AT, HALO_SIGMA) * ndtr(-distance / 0.4)
    return ndtr(distance / EDGE_SIGMA) + overshoot - halo


def over_dispersed(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    """Return counts of the given mean and `NOISE_FACTOR` times the Poisson variance."""
    mean = np.clip(mean, 0.5, None)
    return rng.poisson(rng.gamma(mean / (NOISE_FACTOR - 1), NOISE_FACTOR - 1)).astype(np.float32)


def electron_micrograph(
    rng: np.random.Generator,
    metal: np.ndarray,
    lower: np.ndarray,
    vias: np.ndarray,
    *,
    compressed: bool,
    look: np.random.Generator | None = None,
) -> np.ndarray:
    """Render a scanning electron micrograph.

    Args:
      rng: random numbers of this image.
      metal: signed distance `[size, size]` to the edges of the metal, in pixels, positive inside.
      lower: signed distance to the edges of the layer below.
      vias: signed distance to the edges of the vias.
      compressed: whether the image goes through JPEG, as MIIC's images did.
      look: random numbers of the die; `rng` by default.

    Returns:
      Grey uint8 `[size, size]`.
    """
    size = len(metal)
    look = look or rng
    dark, bright = look.normal(59, 6), look.normal(146, 9)
    step = bright - dark
    image = edge_profile(metal)
    # The layer below shows faintly between the lines.
    buried = cv2.GaussianBlur(ndtr(lower / 2.0).astype(np.float32), (0, 0), 1.5)
    image = image + look.uniform(0.05, 0.16) * buried * ndtr(-metal / 1.5)
    ring = fields.band(vias, 0, 1.5)
    core = ndtr((vias - 2.0) / 0.8)
    image = image + look.uniform(0.2, 0.4) * ring - look.uniform(0.45, 0.75) * core
    image = (
        image
        + 0.03 * fields.random_field(rng, size, 6.0)
        + 0.02 * fields.random_field(rng, size, 90.0)
    )
    image = dark + step * image
    # Charging: the field brightens slowly and rows drift.
    image *= 1 + 0.03 * fields.random_field(rng, size, size / 2)
    image += np.cumsum(rng.normal(0, 0.25, size))[:, None] - np.linspace(0, 1, size)[:, None]
    defocus = max(0.0, look.normal(0.0, 0.35))
    if defocus > 0.3:
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), defocus)
    image = fields.to_uint8(over_dispersed(rng, image))
    return through_jpeg(image, int(look.integers(70, 93))) if compressed else image


def _layers_below(rng, look, lower: np.ndarray, substrate: np.ndarray, bright: np.ndarray):
    """Render the substrate, whose film varies in thickness, and the lower metal under it."""
    size = len(lower)
    image = substrate + 3.5 * np.stack(
        [fields.random_field(rng, size, 120.0) for _ in range(3)], -1
    )
    through = look.uniform(0.2, 0.6)
    buried = fields.blend(substrate, bright, np.float64(0.75)[None]) + look.normal(0, 12, 3)
    image = fields.blend(image, buried, through * ndtr(lower / 1.4))
    image *= 1 - (0.35 * through * fields.band(lower, 0, 1.6))[..., None]
    return image


def _with_metal(rng, look, image: np.ndarray, metal, lower, bright: np.ndarray) -> np.ndarray:
    """Add grainy metal, which is brighter where it is flat and has dark slopes."""
    size = len(metal)
    grain = (
        1
        + 0.02 * fields.random_field(rng, size, 1.2)
        + 0.025 * fields.random_field(rng, size, 40.0)
    )
    top = bright * grain[..., None]
    relief = ndtr((lower + 1) / 2.5) * 0.05
    top = top * (1 - relief[..., None])
    pits = fields.specks(rng, size, int(look.uniform(0, 160) * (size / 512) ** 2), (0.7, 1.8))
    top = top * (1 - 0.35 * pits[..., None])
    image = fields.blend(image, top, ndtr(metal / 0.7))
    slope = look.uniform(0.1, 0.6) * fields.band(metal, -1.0, look.uniform(1.0, 1.8))
    image *= 1 - slope[..., None]
    return image


def _with_vias(look, image: np.ndarray, vias: np.ndarray) -> np.ndarray:
    """Add dimples with a dark rim and a core that is brighter or darker than the metal."""
    image *= 1 - (look.uniform(0.25, 0.55) * fields.band(vias, -0.3, 1.3))[..., None]
    core = look.choice([look.uniform(0.55, 0.85), look.uniform(1.02, 1.12)], p=(0.7, 0.3))
    return fields.blend(image, image * core, ndtr((vias - 1.0) / 0.8))


def _with_dirt(rng, look, image: np.ndarray) -> np.ndarray:
    """Add dust, dark or glinting, and films of residue."""
    size = len(image)
    density = look.gamma(1.2, 6.0) * (size / 512) ** 2
    dust = fields.specks(rng, size, rng.poisson(density), (1.5, 6.0))
    image *= 1 - (rng.uniform(0.3, 0.8) * dust)[..., None]
    glint = fields.specks(rng, size, rng.poisson(density / 4), (1.0, 3.0))
    image = fields.blend(image, np.array([240.0, 240.0, 235.0]), 0.8 * glint)
    if rng.random() < 0.4:
        residue = ndtr((fields.random_field(rng, size, 60.0) - 1.2) / 0.15)
        image = fields.blend(image, image * rng.uniform(0.72, 0.9), residue)
    return image


def _photographed(rng, look, image: np.ndarray) -> np.ndarray:
    """Add the microscope: uneven light, defocus, a little lateral colour and camera noise."""
    size = len(image)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    light = 1 - (
        look.uniform(0, 0.16) * (x**2 + y**2) / 2 + look.uniform(-0.1, 0.1) * x
        + look.uniform(-0.1, 0.1) * y
    )  # fmt: skip
    image = (image * (light * look.uniform(0.8, 1.05))[..., None]).astype(np.float32)
    blur = 0.6 + look.gamma(1.5, 0.35)
    image = cv2.GaussianBlur(image, (0, 0), min(blur, 2.4))
    image = fields.with_lateral_colour(look, image, 0.5)
    noise = rng.standard_normal(image.shape, np.float32)
    image += noise * np.sqrt(np.clip(image, 1, None)) * look.uniform(0.15, 0.4)
    return fields.to_uint8(image)


def optical_micrograph(
    rng: np.random.Generator,
    metal: np.ndarray,
    lower: np.ndarray,
    vias: np.ndarray,
    *,
    look: np.random.Generator | None = None,
) -> np.ndarray:
    """Render a bright-field optical micrograph.

    Args:
      rng, metal, lower, vias, look: as for `electron_micrograph`.

    Returns:
      RGB uint8 `[size, size, 3]`.
    """
    look = look or rng
    substrate = SUBSTRATES[look.integers(len(SUBSTRATES))] + look.normal(0, 6, 3)
    bright = METALS[look.integers(len(METALS))] + look.normal(0, 6, 3)
    # Some chips have little contrast between the metal and its surroundings.
    bright = substrate + (bright - substrate) * (1 - look.uniform(0, 0.45))
    image = _layers_below(rng, look, lower, substrate, bright)
    image = _with_metal(rng, look, image, metal, lower, bright)
    image = _with_vias(look, image, vias)
    image = _with_dirt(rng, look, image)
    return _photographed(rng, look, image)
