"""How one mask has to be turned, scaled and shifted to lie over another one of the same metal."""

import dataclasses

import cv2
import numpy as np
import scipy.fft

from eal_icnet_jax.system.errors import UserError

COARSE_SIDE = 768
"""Longest side in pixels at which all orientations are compared."""

SIDES = (COARSE_SIDE, 2048)
"""Longest sides in pixels at which the place is refined, one after the other."""

BLUR = 2.0
"""Standard deviation in pixels of the blur that gives edges a slope."""

LARGEST_DIFFERENCE = 0.2
"""Largest mean difference of places that show the same."""

LARGEST_STRETCH = 0.2
"""Largest change of an area by the refined place; more comes from masks that do not fit."""

SMALLEST_AGREEMENT = 0.4
"""Smallest part of the metal of either mask that both show, of masks of the same metal."""

ORIENTATIONS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""Quarter turns to the left, and whether columns are reversed before."""


@dataclasses.dataclass(frozen=True)
class Registration:
    """Where a mask lies over a reference.

    Attributes:
      matrix: `[2, 3]`, from (x, y, 1) of a pixel of the reference to (x, y) of the mask.
      turns: quarter turns to the left that were applied to the mask.
      mirrored: whether its columns were reversed before.
      agreement: metal that both show, relative to the metal that either shows.
    """

    matrix: np.ndarray
    turns: int
    mirrored: bool
    agreement: float

    def apply(self, mask: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return a mask as it lies over the reference, and where it has pixels, `[H, W]` bool."""
        size, flags = shape[::-1], cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(mask.astype(np.uint8), self.matrix, size, flags=flags)
        inside = cv2.warpAffine(np.ones(mask.shape, np.uint8), self.matrix, size, flags=flags)
        return warped > 0, inside > 0


def _oriented(mask: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    return np.rot90(mask[:, ::-1] if mirrored else mask, turns)


def _orientation_matrix(shape: tuple[int, int], turns: int, mirrored: bool) -> np.ndarray:
    """Return the `[3, 3]` matrix from pixels of an oriented mask to those of the mask."""
    height, width = shape
    matrix = np.eye(3)
    if mirrored:
        matrix = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    size = height, width
    for _ in range(turns):
        # `rot90`: row i, column j of the result is row j, column W - 1 - i of its argument.
        matrix = matrix @ np.array([[0.0, -1, size[1] - 1], [1, 0, 0], [0, 0, 1]])
        size = size[::-1]
    return matrix


def _shrunk(mask: np.ndarray, factor: float) -> np.ndarray:
    size = [max(1, round(length * factor)) for length in mask.shape[::-1]]
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)


def _best_shift(reference: np.ndarray, image: np.ndarray) -> tuple[float, float, float]:
    """Return the shift (x, y) of an image over a reference, and the peak of their correlation."""
    shape = [
        scipy.fft.next_fast_len(a + b) for a, b in zip(reference.shape, image.shape, strict=True)
    ]
    a, b = (scipy.fft.rfft2(part - part.mean(), shape) for part in (reference, image))
    correlation = scipy.fft.irfft2(a * np.conj(b), shape)
    row, column = np.unravel_index(np.argmax(correlation), correlation.shape)
    peak = correlation[row, column] / max(1e-9, np.sqrt(
        np.square(reference - reference.mean()).sum() * np.square(image - image.mean()).sum()
    ))  # fmt: skip
    y, x = (
        value - length if value > length // 2 else value
        for value, length in zip((row, column), correlation.shape, strict=True)
    )
    return float(x), float(y), float(peak)


def register(reference: np.ndarray, mask: np.ndarray) -> Registration:
    """Find how a mask lies over a reference.

    Both have pixels of about one size. The mask may be turned by any number of quarter turns,
    mirrored, and besides be rotated, scaled and sheared a little.

    Args:
      reference: `[H, W]` bool.
      mask: `[h, w]` bool.

    Raises:
      UserError: they do not show the same metal.
    """
    if not reference.any() or not mask.any():
        raise UserError("one of the two has no metal: there is nothing to compare")
    factor = min(1.0, COARSE_SIDE / max(*reference.shape, *mask.shape))
    small, small_mask = _shrunk(reference, factor), _shrunk(mask, factor)
    found = [
        (_best_shift(small, _oriented(small_mask, *orientation)), orientation)
        for orientation in ORIENTATIONS
    ]
    (x, y, _), (turns, mirrored) = max(found, key=lambda item: item[0][2])
    upright = np.ascontiguousarray(_oriented(mask, turns, mirrored).astype(np.uint8))
    matrix = np.array([[1.0, 0, -x / factor], [0, 1, -y / factor]])
    for side in SIDES:
        matrix = _refined(reference, upright, matrix, side)
    back = _orientation_matrix(mask.shape, turns, mirrored)
    total = back[:2] @ np.vstack([matrix, [0, 0, 1]])
    registration = Registration(total, turns, mirrored, 0.0)
    warped, inside = registration.apply(mask, reference.shape)
    both = np.count_nonzero(warped & reference)
    either = np.count_nonzero((warped | reference) & inside)
    agreement = both / max(either, 1)
    if agreement < SMALLEST_AGREEMENT:
        raise UserError(
            f"the two agree in only {100 * agreement:.0f}% of their metal, however one is turned "
            "and shifted: they do not show the same layer, or --pixel-size is wrong"
        )
    return dataclasses.replace(registration, agreement=agreement)


def _shared(reference: np.ndarray, mask: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Return where a mask shows what the reference does, `[h, w]` uint8 of 0 and 255.

    Metal that only one of them has, such as beyond an edge, would pull the place towards it.
    """
    over = cv2.warpAffine(reference, warp, mask.shape[::-1])
    wrong = cv2.GaussianBlur(np.abs(over - mask), (0, 0), 4 * BLUR)
    return np.where(wrong < LARGEST_DIFFERENCE, 255, 0).astype(np.uint8)


def _refined(reference: np.ndarray, mask: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Return a better matrix, from enhanced correlation (Evangelidis and Psarakis, 2008).

    Args:
      reference, mask: `[H, W]` and `[h, w]`.
      matrix: `[2, 3]`, off by some pixels of the image at the longest side below.
      side: longest side in pixels at which the masks are compared.
    """
    factor = min(1.0, side / max(*reference.shape, *mask.shape))
    images = [cv2.GaussianBlur(_shrunk(part, factor), (0, 0), BLUR) for part in (reference, mask)]
    # Pixel k of a shrunk image is at (k + 1/2) / factor - 1/2.
    to_small = np.array([[factor, 0, factor / 2 - 0.5], [0, factor, factor / 2 - 0.5], [0, 0, 1]])
    small = to_small @ np.vstack([matrix, [0, 0, 1]]) @ np.linalg.inv(to_small)
    criteria = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5
    warp = small[:2].astype(np.float32)
    for motion in (cv2.MOTION_EUCLIDEAN, cv2.MOTION_AFFINE, cv2.MOTION_AFFINE):
        shared = _shared(*images, warp)
        try:
            _, better = cv2.findTransformECC(*images, warp.copy(), motion, criteria, shared, 1)
        except cv2.error:  # raised if it does not converge
            continue
        if abs(np.linalg.det(better[:, :2]) - 1) < LARGEST_STRETCH:
            warp = better
    total = np.linalg.inv(to_small) @ np.vstack([warp, [0, 0, 1]]) @ to_small
    return total[:2]
