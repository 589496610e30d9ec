"""Smooth maps from pixels of one image to those of another: turned, scaled, a little bent."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse
from scipy.interpolate import BSpline

from eal_icnet_jax.imaging import matching
from eal_icnet_jax.system.errors import UserError

DEGREE = 3
"""Of the splines."""

MODELS = ("rigid", "affine", "bend")
"""What a map may do: turn and shift; also scale and shear; also bend smoothly."""

STIFFNESS = tuple(10.0**k for k in range(6, -4, -1))
"""How much a bend costs, relative to the places that it has to fit. The best one is chosen."""

ENOUGH = 1.05
"""A stiffer map is taken if its error at places that it was not fitted to is larger by less."""

FOLDS = 10
"""Number of parts into which places are divided to see how well the rest predicts each."""

FEWEST_FOR_BEND = 9
"""Smallest number of places that a bend is fitted to."""

NODES_APART = 128
"""Smallest distance of the nodes of a bend, in pixels."""

MAX_NODES = 24
"""Largest number of intervals between nodes along a side."""


@dataclasses.dataclass(frozen=True)
class SmoothMap:
    """A map of pixels, as cubic splines over an image.

    Attributes:
      shape: height and width of the image whose pixels are mapped.
      offsets: coefficients of (x, y) of the mapped pixel minus those of the pixel, `[ny, nx, 2]`,
        of splines with evenly spaced knots over the image.
    """

    shape: tuple[int, int]
    offsets: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return where points (x, y) lie in the other image, `[N, 2]`."""
        points = np.asarray(points, float)
        return points + (design(self.shape, self.offsets.shape[:2], points)
                         @ self.offsets.reshape(-1, 2))  # fmt: skip

    def on_grid(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return where the points of a grid lie in the other image, `[len(y), len(x), 2]`."""
        rows, columns = (
            _basis(values, length, count)
            for values, length, count in zip((y, x), self.shape, self.offsets.shape, strict=False)
        )
        out = np.einsum("ai,bj,ijc->abc", rows, columns, self.offsets, optimize=True)
        return out + np.stack(np.meshgrid(x, y), -1)

    def with_nodes(self, counts: tuple[int, int]) -> "SmoothMap":
        """Return the same map with other numbers of splines down and across."""
        y, x = (np.linspace(0, length - 1, 3 * n) for length, n in zip(self.shape, counts,
                                                                      strict=True))  # fmt: skip
        values = self.on_grid(y, x) - np.stack(np.meshgrid(x, y), -1)
        rows, columns = (
            np.linalg.pinv(_basis(at, length, count))
            for at, length, count in zip((y, x), self.shape, counts, strict=True)
        )
        return SmoothMap(self.shape, np.einsum("ia,jb,abc->ijc", rows, columns, values))


def node_counts(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the numbers of splines down and across that bends of an image have."""
    apart = max(NODES_APART, max(shape) / MAX_NODES)
    down, across = (max(1, round(length / apart)) + DEGREE for length in shape)
    return down, across


def _basis(values: np.ndarray, length: int, count: int) -> np.ndarray:
    """Return the value of each spline at places along a side, `[N, count]`.

    Beyond the image, the splines go on straight.
    """
    if not len(values):
        return np.zeros((0, count))
    values = np.asarray(values, float)
    last = max(length - 1, 1)
    knots = last / (count - DEGREE) * (np.arange(count + DEGREE + 1) - DEGREE)
    inside = np.clip(values, 0, min(last, knots[count]))  # rounded, the last knot may lie before
    out = BSpline.design_matrix(inside, knots, DEGREE).toarray()
    beyond = np.abs(values - inside) > 1e-9 * last
    if beyond.any():
        slopes = BSpline(knots, np.eye(count), DEGREE).derivative()(inside[beyond])
        out[beyond] += (values - inside)[beyond, None] * slopes
    return out


def design(
    shape: tuple[int, int], counts: Sequence[int], points: np.ndarray
) -> scipy.sparse.csr_array:
    """Return the value of each spline over an image at points, `[N, down * across]`."""
    down, across = (_basis(points[:, 1 - axis], shape[axis], counts[axis]) for axis in (0, 1))
    return scipy.sparse.csr_array(
        np.einsum("ni,nj->nij", down, across).reshape(len(points), counts[0] * counts[1])
    )


@functools.lru_cache(4)
def bending(
    shape: tuple[int, int], counts: tuple[int, int], order: int = 2
) -> scipy.sparse.csr_array:
    """Return the cost of the bend of coefficients, `[down * across] * 2`.

    It is the integral of the squares of the derivatives of an order, with 256 pixels as the unit of
    length, so that it depends on the bend and hardly on the number of splines. A plane costs
    nothing at order 2, and long waves cost little beside short ones at higher ones.
    """

    def differences(count: int, order: int) -> scipy.sparse.csr_array:
        out = scipy.sparse.eye_array(count).tocsr()
        for _ in range(min(order, count)):
            out = out[1:] - out[:-1]
        return out

    cost = scipy.sparse.csr_array((counts[0] * counts[1],) * 2)
    for across in range(order + 1):
        orders = order - across, across
        part = scipy.sparse.kron(*map(differences, counts, orders)).tocsr()
        scales = (
            (256 * (count - DEGREE) / length) ** (2 * power - 1)
            for power, count, length in zip(orders, counts, shape, strict=True)
        )
        cost = cost + math.comb(order, across) * math.prod(scales) * (part.T @ part)
    return cost


@dataclasses.dataclass(frozen=True)
class Fit:
    """A map that fits places.

    Attributes:
      map: from pixels of the reference.
      deviations: by how many pixels each place deviates from it, `[N]`.
      unseen: by how many pixels places deviate from the map that the other places give, `[M]`.
    """

    map: SmoothMap
    deviations: np.ndarray
    unseen: np.ndarray


def fit_map(
    shape: tuple[int, int],
    points: np.ndarray,
    targets: np.ndarray,
    information: np.ndarray,
    model: str,
    separation: float,
) -> Fit:
    """Fit a map to places. Some of them may be wrong.

    Args:
      shape: height and width of the reference.
      points: (x, y) in the reference, `[N, 2]`, that do not lie on a line.
      targets: (x, y) of the same places in the other image, `[N, 2]`.
      information: how sure each target is, `[N, 2, 2]`.
      model: one of `MODELS`.
      separation: distance in pixels from which on two places know nothing of each other.
    """
    apart = _apart(points, separation)
    is_bend = model == "bend" and len(apart) >= FEWEST_FOR_BEND
    if not is_bend:
        apart = np.arange(len(points))
    order = np.random.default_rng(0).permutation(apart)
    tried = []
    for stiffness in STIFFNESS if is_bend else STIFFNESS[:1]:
        fitted = functools.partial(_fitted, shape, model, stiffness)
        unseen = np.zeros(len(points))
        for fold in np.array_split(order, min(FOLDS, len(order))):
            rest = np.setdiff1d(apart, fold)
            found, _ = fitted(points[rest], targets[rest], information[rest])
            unseen[fold] = _deviations(found, points[fold], targets[fold], information[fold])
        error = float(np.minimum(unseen[apart], 3 * matching.TOLERANCE).mean())
        tried.append((error, unseen[apart], fitted))
    least = min(error for error, _, _ in tried)
    _, unseen, fitted = next(item for item in tried if item[0] <= ENOUGH * least)
    return Fit(*fitted(points, targets, information), unseen)


def _apart(points: np.ndarray, separation: float) -> np.ndarray:
    """Choose points that lie apart: x or y of two of them differ by at least `separation`.

    Returns their indices.
    """
    chosen: list[int] = []
    for k in np.lexsort(points.T):
        if not chosen or np.abs(points[chosen] - points[k]).max(1).min() >= separation:
            chosen.append(int(k))
    return np.array(chosen)


def _deviations(
    found: SmoothMap, points: np.ndarray, targets: np.ndarray, information: np.ndarray
) -> np.ndarray:
    return matching.sure_distances(found(points) - targets, information)


def _fitted(
    shape: tuple[int, int],
    model: str,
    stiffness: float,
    points: np.ndarray,
    targets: np.ndarray,
    information: np.ndarray,
) -> tuple[SmoothMap, np.ndarray]:
    """Return a map and the deviations of the places; arguments as in `fit_map`."""
    if model != "bend":
        matrix, deviations = _fitted_matrix(model, points, targets, information)
        return map_of_matrix(shape, matrix), deviations
    counts = node_counts(shape)
    both = scipy.sparse.kron(design(shape, counts, points), scipy.sparse.eye_array(2)).tocsr()
    typical = float(np.median(np.trace(information, axis1=1, axis2=2))) or 1.0
    cost = typical * (stiffness * bending(shape, counts)
                      + 1e-9 * scipy.sparse.eye_array(counts[0] * counts[1]))  # fmt: skip
    penalty = scipy.sparse.kron(cost, scipy.sparse.eye_array(2)).tocsr()
    unknowns, deviations = matching.fit_places(both, targets - points, information, penalty)
    return SmoothMap(shape, unknowns.reshape(*counts, 2)), deviations


def _fitted_matrix(
    model: str, points: np.ndarray, targets: np.ndarray, information: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `[2, 3]` matrix of a rigid or affine map, and the deviations of the places."""
    centre = points.mean(0)
    near = points - centre
    linear, shift = np.eye(2), centre
    deviations = np.zeros(len(points))
    for _ in range(ROUNDS_OF_TURNS):
        columns = directions(model, near @ linear.T)
        both = scipy.sparse.csr_array(columns.reshape(2 * len(points), -1))
        least = 1e-9 * scipy.sparse.eye_array(both.shape[1]).tocsr()
        unknowns, deviations = matching.fit_places(
            both, targets - (near @ linear.T + shift), information, least
        )
        linear = _turned(model, unknowns[2:]) @ linear
        shift = shift + unknowns[:2]
    return np.column_stack([linear, shift - linear @ centre]), deviations


ROUNDS_OF_TURNS = 5
"""Number of times that a turn is taken for a small one, from where the last one ended."""


def directions(model: str, points: np.ndarray) -> np.ndarray:
    """Return how points move with each unknown of a rigid or affine map, `[N, 2, K]`.

    The unknowns are a shift, and then the angle or the matrix that is added to the unit matrix.
    """
    x, y = points.T
    one, zero = np.ones(len(points)), np.zeros(len(points))
    if model == "rigid":
        rows = (one, zero, -y), (zero, one, x)
    else:
        rows = (one, zero, x, y, zero, zero), (zero, one, zero, zero, x, y)
    return np.stack([np.stack(row, -1) for row in rows], 1)


def _turned(model: str, unknowns: np.ndarray) -> np.ndarray:
    """Return the `[2, 2]` matrix of the unknowns after the shift."""
    if model == "affine":
        return np.eye(2) + unknowns.reshape(2, 2)
    cos, sin = np.cos(unknowns[0]), np.sin(unknowns[0])
    return np.array([[cos, -sin], [sin, cos]])


def places_of_coefficients(shape: tuple[int, int], counts: Sequence[int]) -> np.ndarray:
    """Return the place (x, y) of each coefficient of splines over an image, `[down, across, 2]`.

    Coefficients that change evenly from place to place give a straight line through their values.
    """
    y, x = (
        (np.arange(count) - (DEGREE - 1) / 2) * max(length - 1, 1) / (count - DEGREE)
        for length, count in zip(shape, counts, strict=True)
    )
    return np.stack(np.meshgrid(x, y), -1)


def map_of_matrix(shape: tuple[int, int], matrix: np.ndarray) -> SmoothMap:
    """Return the map of a matrix `[2, 3]`, from (x, y, 1) to (x, y)."""
    grid = places_of_coefficients(shape, (DEGREE + 1, DEGREE + 1))
    return SmoothMap(shape, grid @ matrix[:, :2].T + matrix[:, 2] - grid)


def nearest_map(found: SmoothMap, model: str) -> SmoothMap:
    """Return the rigid or affine map that is nearest to a map; a bend stays what it is."""
    if model == "bend":
        return found
    y, x = (np.linspace(0, length - 1, 8) for length in found.shape)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    sure = np.tile(np.eye(2), (len(points), 1, 1))
    matrix, _ = _fitted_matrix(model, points, found(points), sure)
    return map_of_matrix(found.shape, matrix)


def check_spread(points: np.ndarray, where: str):
    """Raise a `UserError` if points `[N, 2]` are too few or lie on a line, which fits many maps."""
    if len(points) >= 3:
        spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
        if spread[-1] > 0.02 * spread[0]:
            return
    raise UserError(f"{where} names no three points that form a triangle: add points")
