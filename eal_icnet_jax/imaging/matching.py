"""Where a part of one image lies in another, how sure that is, and what fits many such places.

Each place is sure to a different degree in each direction, since lines say nothing about shifts
along them. So it comes with an information matrix, the inverse of a covariance.
"""

from typing import NamedTuple

import cv2
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import spsolve

CLEAR_LEAD = 0.05
"""By how much a place must fit better than others to be sure."""

TOLERANCE = 1.0
"""Deviation of a place in pixels from which on it counts less."""

ROUNDS = 30
"""Number of times that the fit is computed with new weights."""


class Match(NamedTuple):
    """The place of a template in a window.

    Attributes:
      shift: (x, y) of the template's corner in the window, in pixels.
      information: how sure that is, `[2, 2]`, in units of 1 / pixel^2.
      fit: correlation, at most 1.
    """

    shift: np.ndarray
    information: np.ndarray
    fit: float


def match(window: np.ndarray, template: np.ndarray, smallest_fit: float) -> Match | None:
    """Find a template in a window, or return None if it does not fit or fits best at the border.

    Args:
      window: `[H, W]` or `[H, W, C]` float32.
      template: `[h, w]` or `[h, w, C]` float32, smaller by at least 2.
      smallest_fit: correlation that the place must have.
    """
    fits = np.nan_to_num(cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED))
    found = peak(fits)
    if found is None or found.fit < smallest_fit:
        return None
    # A second place that fits nearly as well makes the first one doubtful, unless it lies on the
    # same ridge: along it, the shift is unknown anyway.
    column, row = np.rint(found.shift).astype(int)
    _, ridges = cv2.connectedComponents((fits > found.fit - CLEAR_LEAD).astype(np.uint8))
    ridge = (ridges == ridges[row, column]).astype(np.uint8)
    others = fits[cv2.dilate(ridge, np.ones((7, 7), np.uint8)) == 0]
    clear = np.clip((found.fit - others.max()) / CLEAR_LEAD, 0.01, 1) if others.size else 1.0
    information = clear * found.information / (1 - min(found.fit, 0.99))
    return found._replace(information=information)


def peak(fits: np.ndarray) -> Match | None:
    """Return the highest place of a surface `[H, W]`, or None if it lies at the border.

    Its information is the curvature of the surface.
    """
    _, best, _, (column, row) = cv2.minMaxLoc(fits)
    height, width = fits.shape
    if not (0 < column < width - 1 and 0 < row < height - 1):
        return None
    near = fits[row - 1 : row + 2, column - 1 : column + 2].astype(float)
    slope = np.array([near[1, 2] - near[1, 0], near[2, 1] - near[0, 1]]) / 2
    cross = (near[2, 2] + near[0, 0] - near[0, 2] - near[2, 0]) / 4
    bend = np.array([[2 * near[1, 1] - near[1, 0] - near[1, 2], -cross],
                     [-cross, 2 * near[1, 1] - near[0, 1] - near[2, 1]]])  # fmt: skip
    values, axes = np.linalg.eigh(bend)
    values = np.maximum(values, 1e-9)
    refined = np.clip(axes @ ((axes.T @ slope) / values), -0.5, 0.5)
    return Match(np.array([column, row]) + refined, (axes * values) @ axes.T, float(best))


def sure_distances(differences: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Return the lengths of differences `[N, 2]`, along directions that are known.

    Along a direction about which a place says nothing, it contradicts nothing.

    Args:
      differences: of places, in pixels.
      information: how sure each place is, `[N, 2, 2]`.
    """
    largest = np.maximum(np.linalg.eigvalsh(information)[:, -1], 1e-12)[:, None, None]
    squares = np.einsum("ni,nij,nj->n", differences, information / largest, differences)
    return np.sqrt(squares.clip(0))


def block_diagonal(blocks: np.ndarray) -> scipy.sparse.csr_array:
    """Return blocks `[N, 2, 2]` along the diagonal of a matrix `[2 N, 2 N]`."""
    count = len(blocks)
    rows = np.repeat(np.arange(2 * count), 2)
    columns = (2 * np.arange(count)[:, None] + [0, 1, 0, 1]).ravel()
    return scipy.sparse.coo_array((blocks.ravel(), (rows, columns))).tocsr()


def fit_places(
    design: scipy.sparse.csr_array,
    places: np.ndarray,
    information: np.ndarray,
    penalty: scipy.sparse.csr_array,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the unknowns `[K]` that fit places best, and by how many pixels each place deviates.

    Places that contradict the others count little: the weight falls with the fourth power of the
    deviation (a robust least squares by reweighting, as in Holland and Welsch, 1977).

    Args:
      design: `[2 N, K]`, from the unknowns to (x, y) of each place, one after the other.
      places: `[N, 2]`.
      information: how sure each is, `[N, 2, 2]`.
      penalty: `[K, K]`, of the unknowns' squares; makes them unique.
    """
    count = len(places)
    weight = np.ones(count)
    unknowns, deviations = np.zeros(design.shape[1]), np.zeros(count)
    for _ in range(ROUNDS):
        weighted = design.T @ block_diagonal(weight[:, None, None] * information)
        unknowns = spsolve((weighted @ design + penalty).tocsc(), weighted @ places.ravel())
        deviations = sure_distances((design @ unknowns).reshape(count, 2) - places, information)
        tolerance = max(TOLERANCE, float(np.median(deviations)))
        new = 1 / (1 + (deviations / tolerance) ** 2) ** 2
        if np.abs(new - weight).max() < 1e-4:
            break
        weight = new
    return unknowns, deviations
