"""A smooth map fitted to two images as a whole: the sum of all correlations is made largest.

Each small block of the reference gives a surface, its correlation with the other image by shift. A
single surface may have its peak in a wrong place, since most edges of one layer are not in the
other. The map is the one under which the surfaces add up to most, less what its bend costs.
"""

import dataclasses

import cv2
import numpy as np
import scipy.ndimage
import scipy.sparse
from scipy.sparse.linalg import spsolve

from eal_icnet_jax.imaging import matching, smooth_maps
from eal_icnet_jax.imaging.image_pairs import ImagePair
from eal_icnet_jax.imaging.smooth_maps import SmoothMap

BLOCK = 64
"""Side of a block in pixels of the reduced images."""

MOST_BLOCKS = 16384
"""About the largest number of blocks; of more, evenly spread cells are taken."""

CELL = 4
"""Blocks a side of the parts of the image by which a map is judged."""

STIFFNESS = (100.0, 1.0, 0.1, 0.03, 0.01, 0.003)
"""How much a bend costs, relative to the correlations. The best one is chosen."""

USUAL_STIFFNESS = 0.03
"""How much a bend costs before the best one is chosen."""

PLAIN_BEND = 0.3
"""How much second derivatives cost beside those of order 4, which let the long waves of a stage be
and alone would bend a map freely where nothing is to be seen."""

FOLDS = 3
"""Number of parts into which cells are divided to see how well the rest predicts each."""

LAST_REACH = 12
"""Largest deviation in pixels that is seen when a map is judged."""

STEPS = 12
"""Largest number of steps of a fit."""

CLEAR = 1.8
"""By how many deviations of its surface the peak of a cell exceeds the mean, at least."""


@dataclasses.dataclass(frozen=True)
class Alignment:
    """A map from the pixels of a reference to those of another image, and how far to trust it.

    Attributes:
      map: of pixels.
      points: (x, y) in the reference of the places by which it is judged, `[N, 2]`.
      deviations: of each place from the map, in pixels, `[N]`.
      unseen: of each place from the map that the other places give, in pixels, `[N]`. What is
        compared is each place's own, where it shows something in that direction. Not a number if
        too few others are left.
    """

    map: SmoothMap
    points: np.ndarray
    deviations: np.ndarray
    unseen: np.ndarray

    @property
    def doubt(self) -> float:
        """The median of `unseen`."""
        return float(np.median(self.unseen))


class _Surfaces:
    """Correlations of all blocks by shift, around a first map."""

    def __init__(
        self,
        pair: ImagePair,
        mapped: SmoothMap,
        level: int,
        parts: tuple[str, str],
        blur: float,
        reach: int,
    ):
        self.start, self.level = mapped, level
        self.reach = reach
        first, second = pair.features(level, parts)
        surfaces, tensors, middles, cells = [], [], [], []
        for corner in self._corners(mapped.shape):
            block = pair.reference_square(corner, BLOCK, level)
            window = pair.moved_square(
                mapped, corner - self.reach * level, BLOCK + 2 * self.reach, level
            )
            if block is None or window is None:
                continue
            template = first(block)
            template = (template - template.mean((0, 1))).astype(np.float32)
            features = cv2.GaussianBlur(second(window), (0, 0), blur)
            features = features.reshape(*window.shape, -1)
            surfaces.append(cv2.matchTemplate(features, template, cv2.TM_CCORR) / BLOCK**2)
            smooth = cv2.GaussianBlur(template, (0, 0), blur)
            y, x = np.gradient(smooth.reshape(*block.shape, -1), axis=(0, 1))
            products = ((x * x).sum(-1), (x * y).sum(-1), (y * y).sum(-1))
            xx, xy, yy = (float(product.mean()) for product in products)
            tensors.append([[xx, xy], [xy, yy]])
            middles.append(corner + (BLOCK * level - 1) / 2)
            cells.append(tuple((corner // (CELL * BLOCK * level)).astype(int)))
        size = 2 * self.reach + 1
        self.surfaces = np.array(surfaces).reshape(-1, size, size)
        self.tensors = np.array(tensors).reshape(-1, 2, 2)
        self.middles = np.array(middles).reshape(-1, 2)
        _, cell = np.unique(np.array(cells).reshape(-1, 2), axis=0, return_inverse=True)
        self.cell = cell.ravel()
        self._coefficients = self.surfaces
        for axis in (1, 2):
            self._coefficients = scipy.ndimage.spline_filter1d(self._coefficients, axis=axis)

    def _corners(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the corners (x, y) of blocks, of large images those of evenly spread cells."""
        length = BLOCK * self.level
        counts = [max(1, side // length) for side in shape]
        every = int(np.ceil(np.sqrt(counts[0] * counts[1] / MOST_BLOCKS)))
        y, x = (length * index[(index // CELL) % every == 0] for index in map(np.arange, counts))
        return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)

    def shifts(self, found: SmoothMap) -> np.ndarray:
        """Return by how many reduced pixels each block moves from the first map, `[N, 2]`."""
        return (found(self.middles) - self.start(self.middles)) / self.level

    def _values_and_slopes(
        self, shifts: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return by cubic splines the correlation of each chosen block at its shift, and its slope.

        Args:
          shifts: of the blocks `[N, 2]` (x, y), in reduced pixels.
          chosen: numbers of the blocks `[N]`.

        Returns:
          `[N]` and `[N, 2]`. Values go on flat from the last but one shift on.
        """
        places = np.clip(shifts + self.reach, 1, 2 * self.reach - 1)
        is_searched = places == shifts + self.reach
        first = np.minimum(np.floor(places).astype(int), 2 * self.reach - 2)
        x, y = ((first[:, axis, None] + np.arange(-1, 3)) for axis in (0, 1))
        near = self._coefficients[chosen[:, None, None], y[:, :, None], x[:, None, :]]
        (x, slope_x), (y, slope_y) = (_spline_weights(part) for part in (places - first).T)
        weights = ((y, x), (y, slope_x), (slope_y, x))
        value, *slopes = (np.einsum("nab,na,nb->n", near, *pair) for pair in weights)
        return value, np.stack(slopes, -1) * is_searched

    def fit(self, model: str, stiffness: float, chosen: np.ndarray) -> SmoothMap:
        """Return the map under which the chosen blocks add up to most.

        Newton's method, where the correlation of a block with itself stands for the curvature of
        its surface, and steps that make it worse are shortened (Levenberg and Marquardt).
        """
        if not len(chosen):
            return self.start
        shape, middles = self.start.shape, self.middles[chosen]
        counts = smooth_maps.node_counts(shape)
        start = self.start.with_nodes(counts)
        if model == "bend":
            columns = scipy.sparse.kron(
                smooth_maps.design(shape, counts, middles), scipy.sparse.eye_array(2)
            )
            first = start.offsets.ravel()
            to_offsets = scipy.sparse.eye_array(len(first)).tocsr()
        else:
            columns, to_offsets = _few_unknowns(start, model, middles)
            first = np.zeros(to_offsets.shape[1])
        columns = columns.tocsr() / self.level
        tensors = self.tensors[chosen]
        curvature = columns.T @ matching.block_diagonal(tensors) @ columns
        typical = float(np.mean(np.trace(tensors, axis1=1, axis2=2))) / self.level**2 + 1e-12
        cost = 1e-9 * typical * scipy.sparse.eye_array(len(first)).tocsr()
        if model == "bend":
            bend = smooth_maps.bending(shape, counts, 4)
            bend = bend + PLAIN_BEND * smooth_maps.bending(shape, counts)
            both = scipy.sparse.kron(bend, scipy.sparse.eye_array(2)).tocsr()
            cost = cost + stiffness * typical * both

        def value_and_slope(unknowns: np.ndarray) -> tuple[float, np.ndarray]:
            shifts = (columns @ (unknowns - first)).reshape(-1, 2)
            correlations, slopes = self._values_and_slopes(shifts, chosen)
            total = float(correlations.sum() - 0.5 * unknowns @ (cost @ unknowns))
            return total, columns.T @ slopes.ravel() - cost @ unknowns

        unknowns, damping = first.copy(), 0.3
        best, slope = value_and_slope(unknowns)
        for _ in range(STEPS):
            step = spsolve((damping * curvature + cost).tocsc(), slope)
            better, new_slope = value_and_slope(unknowns + step)
            if better <= best:
                damping *= 4
                if damping > 100:
                    break
                continue
            is_done = better - best < 1e-5 * abs(best)
            unknowns, best, slope = unknowns + step, better, new_slope
            damping = max(damping / 2, 0.05)
            if is_done:
                break
        change = to_offsets @ (unknowns - first)
        found = SmoothMap(shape, start.offsets + change.reshape(start.offsets.shape))
        return smooth_maps.nearest_map(found, model)

    def totals(self, maps: list[SmoothMap], fold: np.ndarray) -> np.ndarray:
        """Return the sum of the correlations of each cell under the map that did not see it.

        Args:
          maps: one for each fold, fitted to the cells of the others.
          fold: of each cell.
        """
        shifts = np.array([self.shifts(found) for found in maps])
        blocks = np.arange(len(self.middles))
        values, _ = self._values_and_slopes(shifts[fold[self.cell], blocks], blocks)
        return np.bincount(self.cell, values, len(fold))

    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the cells that show something clearly.

        Returns:
          number `[N]`, middle `[N, 2]`, best shift `[N, 2]`, and how sure that is `[N, 2, 2]`.
        """
        numbers, middles, best, information = [], [], [], []
        for number in range(self.cell.max(initial=-1) + 1):
            inside = self.cell == number
            surface = self.surfaces[inside].sum(0)
            found = matching.peak(surface)
            if found is None or found.fit < surface.mean() + CLEAR * surface.std():
                continue
            numbers.append(number)
            middles.append(self.middles[inside].mean(0))
            best.append(found.shift - self.reach)
            information.append(found.information)
        return (np.array(numbers, int), np.array(middles).reshape(-1, 2),
                np.array(best).reshape(-1, 2), np.array(information).reshape(-1, 2, 2))  # fmt: skip

    def deviations(self, found: SmoothMap, cells: tuple) -> np.ndarray:
        """Return by how many pixels the best shifts of cells deviate from a map, `[N]`."""
        _, middles, best, information = cells
        shifts = (found(middles) - self.start(middles)) / self.level
        return self.level * matching.sure_distances(best - shifts, information)


def _spline_weights(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of the four coefficients around places of a cubic spline, and their slopes.

    Args:
      places: `[N]` in [0, 1], between the second and the third coefficient.

    Returns:
      `[N, 4]` each.
    """
    t = places[:, None]
    u = 1 - t
    weights = np.hstack([u**3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * u**2 + 3 * u**3, t**3]) / 6
    slopes = np.hstack([-(u**2), 3 * t**2 - 4 * t, 4 * u - 3 * u**2, t**2]) / 2
    return weights, slopes


def _few_unknowns(
    start: SmoothMap, model: str, points: np.ndarray
) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """Return how points, and coefficients of a map, change with a shift and a turn or matrix."""
    middle = np.array(start.shape[::-1]) / 2
    grid = smooth_maps.places_of_coefficients(start.shape, start.offsets.shape[:2]).reshape(-1, 2)
    size = max(start.shape)
    parts = (smooth_maps.directions(model, (at - middle) / size) for at in (points, grid))
    changes, offsets = (part.reshape(-1, part.shape[-1]) for part in parts)
    return scipy.sparse.csr_array(changes), scipy.sparse.csr_array(offsets)


def improve(
    pair: ImagePair, mapped: SmoothMap, level: int, parts: tuple[str, str], blur: float, model: str
) -> SmoothMap:
    """Return a better map.

    Args:
      pair: the images.
      mapped: off by no more than thrice the blur.
      level: factor by which both are reduced.
      parts: which edges of each count.
      blur: standard deviation in reduced pixels by which correlations are blurred.
      model: one of `smooth_maps.MODELS`.
    """
    surfaces = _Surfaces(pair, mapped, level, parts, blur, max(4, round(3 * blur)))
    return surfaces.fit(model, USUAL_STIFFNESS, np.arange(len(surfaces.middles)))


def finish(
    pair: ImagePair, mapped: SmoothMap, parts: tuple[str, str], blur: float, model: str
) -> Alignment:
    """Return the best map at full resolution, and how well it is known.

    The stiffness is the one whose maps, fitted to two thirds of the cells, fit the others best.

    Args:
      pair: the images.
      mapped: off by no more than thrice the blur.
      parts: which edges of each count.
      blur: standard deviation in pixels by which correlations are blurred.
      model: one of `smooth_maps.MODELS`.
    """
    surfaces = _Surfaces(pair, mapped, 1, parts, blur, LAST_REACH)
    everything = np.arange(len(surfaces.middles))
    count = surfaces.cell.max(initial=-1) + 1
    if count < FOLDS:  # too small an image to judge a map
        none = np.zeros(0)
        return Alignment(mapped, np.zeros((0, 2)), none, none)
    fold = np.random.default_rng(0).permutation(count) % FOLDS
    tried = []
    for stiffness in STIFFNESS if model == "bend" else STIFFNESS[:1]:
        maps = [
            surfaces.fit(model, stiffness, np.flatnonzero(fold[surfaces.cell] != k))
            for k in range(FOLDS)
        ]
        tried.append((surfaces.totals(maps, fold), maps, stiffness))
    best = max((totals for totals, _, _ in tried), key=np.sum)
    # The stiffest one that is no worse than chance explains.
    _, maps, stiffness = next(
        (totals, maps, stiffness)
        for totals, maps, stiffness in tried
        if (best - totals).sum() <= np.sqrt(count) * (best - totals).std()
    )
    found, cells = surfaces.fit(model, stiffness, everything), surfaces.cells()
    unseen = np.zeros(len(cells[0]))
    for k, other in enumerate(maps):
        mine = fold[cells[0]] == k
        unseen[mine] = surfaces.deviations(other, cells)[mine]
    return Alignment(found, cells[1], surfaces.deviations(found, cells), unseen)
