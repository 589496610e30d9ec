"""Micrographs of drawn layers: how a metal edge, a via and a camera look.

The scanning electron micrographs follow measurements on MIIC: dark phase 59 and bright phase 146 of
255; an edge that rises from 10 to 90% in 1.44 pixels, overshoots by 16% of the step two pixels
inside and settles by eight, with a halo 19% darker, four pixels wide, outside; vias that are bright
rings with dark cores; noise of 1.9 times the Poisson variance. The optical ones add what makes
optical images hard: lower layers that shine through, colour and light that vary over the field,
defocus, dust and residue.
"""

import cv2
import numpy as np
from scipy.special import ndtr

EDGE_SIGMA = 0.56
OVERSHOOT, OVERSHOOT_AT = 0.16, 2.0
HALO, HALO_AT, HALO_SIGMA = 0.19, 2.4, 1.7
NOISE_FACTOR = 1.9


def _field(rng, size: int, scale: float) -> np.ndarray:
    """Smooth random field `[size, size]`, mean 0, standard deviation 1, correlated over `scale`."""
    step = max(1, int(scale / 2))
    coarse = rng.standard_normal((size // step + 9, size // step + 9)).astype(np.float32)
    smooth = cv2.GaussianBlur(coarse, (0, 0), max(scale / step, 0.3))
    smooth = cv2.resize(smooth[4:-4, 4:-4], (size, size), interpolation=cv2.INTER_CUBIC)
    return (smooth - smooth.mean()) / (smooth.std() + 1e-6)


def shaped(rng, distance: np.ndarray, *, rounding: float, roughness: float) -> np.ndarray:
    """What etching makes of a drawn edge: rounded corners and a rough line.

    Args:
      distance: signed distance to the drawn edge `[size, size]`, in pixels.
      rounding: radius in pixels over which corners are smoothed.
      roughness: standard deviation of the edge in pixels.

    Returns:
      Signed distance to the etched edge; the label is where it is positive.
    """
    smooth = cv2.GaussianBlur(distance, (0, 0), rounding) if rounding else distance
    rough = 0.8 * _field(rng, len(distance), 5.0) + 0.6 * _field(rng, len(distance), 14.0)
    return smooth + roughness * rough


def edge_profile(distance: np.ndarray) -> np.ndarray:
    """Brightness across an edge in a scanning electron micrograph: 0 dark phase, 1 bright phase.

    Args:
      distance: to the edge in pixels, positive inside.
    """
    inside, outside = np.maximum(distance, 0), np.maximum(-distance, 0)
    relative = inside / OVERSHOOT_AT
    overshoot = OVERSHOOT * (relative * np.exp(1 - relative)) ** 1.5
    halo = HALO * np.exp(-0.5 * ((outside - HALO_AT) / HALO_SIGMA) ** 2) * ndtr(-distance / 0.4)
    return ndtr(distance / EDGE_SIGMA) + overshoot - halo


def over_dispersed(rng, mean: np.ndarray) -> np.ndarray:
    """Counts with the given mean and `NOISE_FACTOR` times the Poisson variance."""
    mean = np.clip(mean, 0.5, None)
    return rng.poisson(rng.gamma(mean / (NOISE_FACTOR - 1), NOISE_FACTOR - 1)).astype(np.float32)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    return cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)


def electron_micrograph(
    rng, metal: np.ndarray, lower: np.ndarray, vias: np.ndarray, *, compressed: bool, look=None
) -> np.ndarray:
    """A scanning electron micrograph.

    Args:
      rng: NumPy generator.
      metal, lower, vias: signed distances `[size, size]` to the edges of the layer, of the layer
        below and of the vias, in pixels, positive inside.
      compressed: as JPEG, as MIIC's images are.
      look: NumPy generator of what is the same all over a die, its materials and the microscope;
        `rng` if not given.

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
    ring = np.exp(-0.5 * (vias / 1.5) ** 2)
    core = ndtr((vias - 2.0) / 0.8)
    image = image + look.uniform(0.2, 0.4) * ring - look.uniform(0.45, 0.75) * core
    image = image + 0.03 * _field(rng, size, 6.0) + 0.02 * _field(rng, size, 90.0)
    image = dark + step * image
    # Charging: the field brightens slowly and rows drift.
    image *= 1 + 0.03 * _field(rng, size, size / 2)
    image += np.cumsum(rng.normal(0, 0.25, size))[:, None] - np.linspace(0, 1, size)[:, None]
    defocus = max(0.0, look.normal(0.0, 0.35))
    if defocus > 0.3:
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), defocus)
    image = _to_uint8(over_dispersed(rng, image))
    return _jpeg(image, int(look.integers(70, 93))) if compressed else image


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
METALS = np.array(
    [(226, 224, 214), (214, 206, 192), (208, 212, 216), (224, 214, 178)],  # aluminium to copper
    float,
)


def _specks(rng, size: int, count: int, radius: tuple[float, float]) -> np.ndarray:
    """Soft irregular blobs, 0 to 1, `[size, size]`."""
    out = np.zeros((size, size), np.float32)
    for _ in range(count):
        x, y = rng.integers(0, size, 2)
        r = rng.uniform(*radius)
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        radii = r * rng.lognormal(0, 0.35, 14)
        points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], 1)
        cv2.fillPoly(out, [np.rint(points).astype(np.int32)], float(rng.uniform(0.3, 1)))
    return cv2.GaussianBlur(out, (0, 0), 0.8)


def optical_micrograph(
    rng,
    metal: np.ndarray,
    lower: np.ndarray,
    vias: np.ndarray,
    *,
    difficulty: float = 1.0,
    look=None,
) -> np.ndarray:
    """A bright-field optical micrograph.

    Args:
      rng, metal, lower, vias, look: as for `electron_micrograph`.
      difficulty: scales what disturbs: 0 is a clean image, 1 the benchmark's.

    Returns:
      RGB uint8 `[size, size, 3]`.
    """
    size = len(metal)
    look = look or rng
    substrate = SUBSTRATES[look.integers(len(SUBSTRATES))] + look.normal(0, 6, 3)
    bright = METALS[look.integers(len(METALS))] + look.normal(0, 6, 3)
    # Some chips have little contrast between metal and what lies around it.
    bright = substrate + (bright - substrate) * (1 - difficulty * look.uniform(0, 0.45))

    def blend(image, colour, weight):
        return image + weight[..., None] * (colour - image)

    # Below: the film's colour varies with its thickness, and lower metal shines through it.
    image = substrate + difficulty * 3.5 * np.stack(
        [_field(rng, size, 120.0) for _ in range(3)], -1
    )
    through = look.uniform(0.2, 0.6) * difficulty
    buried = blend(substrate, bright, np.float64(0.75)[None]) + look.normal(0, 12, 3)
    image = blend(image, buried, through * ndtr(lower / 1.4))
    image *= 1 - (0.35 * through * np.exp(-0.5 * (lower / 1.6) ** 2))[..., None]

    # Above: grainy metal, brighter where flat, its slopes dark.
    grain = 1 + 0.02 * _field(rng, size, 1.2) + 0.025 * _field(rng, size, 40.0)
    top = bright * grain[..., None]
    relief = ndtr((lower + 1) / 2.5) * 0.05 * difficulty
    top = top * (1 - relief[..., None])
    pits = _specks(rng, size, int(look.uniform(0, 160) * (size / 512) ** 2), (0.7, 1.8))
    top = top * (1 - 0.35 * pits[..., None])
    image = blend(image, top, ndtr(metal / 0.7))
    slope = look.uniform(0.1, 0.6) * np.exp(-0.5 * ((metal + 1.0) / look.uniform(1.0, 1.8)) ** 2)
    image *= 1 - slope[..., None]

    # Vias: a dimple with a dark rim and a core that may be brighter or darker than the metal.
    image *= 1 - (look.uniform(0.25, 0.55) * np.exp(-0.5 * ((vias + 0.3) / 1.3) ** 2))[..., None]
    core = look.choice([look.uniform(0.55, 0.85), look.uniform(1.02, 1.12)], p=(0.7, 0.3))
    image = blend(image, image * core, ndtr((vias - 1.0) / 0.8))

    # Dust on top, dark or glinting, and films of residue.
    density = difficulty * look.gamma(1.2, 6.0) * (size / 512) ** 2
    dust = _specks(rng, size, rng.poisson(density), (1.5, 6.0))
    image *= 1 - (rng.uniform(0.3, 0.8) * dust)[..., None]
    glint = _specks(rng, size, rng.poisson(density / 4), (1.0, 3.0))
    image = blend(image, np.array([240.0, 240.0, 235.0]), 0.8 * glint)
    if rng.random() < 0.4 * difficulty:
        residue = ndtr((_field(rng, size, 60.0) - 1.2) / 0.15)
        image = blend(image, image * rng.uniform(0.72, 0.9), residue)

    # The microscope: uneven light, defocus, a little lateral colour, camera noise.
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    light = 1 - difficulty * (
        look.uniform(0, 0.16) * (x**2 + y**2) / 2 + look.uniform(-0.1, 0.1) * x
        + look.uniform(-0.1, 0.1) * y
    )  # fmt: skip
    image = (image * (light * look.uniform(0.8, 1.05))[..., None]).astype(np.float32)
    blur = 0.6 + difficulty * look.gamma(1.5, 0.35)
    image = cv2.GaussianBlur(image, (0, 0), min(blur, 2.4))
    for channel, sign in ((0, 1), (2, -1)):
        dx, dy = sign * look.uniform(-0.5, 0.5, 2) * difficulty
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        image[..., channel] = cv2.warpAffine(
            image[..., channel], shift, (size, size), borderMode=cv2.BORDER_REPLICATE
        )
    noise = rng.standard_normal(image.shape, np.float32)
    image += noise * np.sqrt(np.clip(image, 1, None)) * look.uniform(0.15, 0.4)
    return _to_uint8(image)
