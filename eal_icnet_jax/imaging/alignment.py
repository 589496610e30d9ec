"""How the image of one layer of a die lies over that of another layer.

Photographs are compared by the directions of their edges, whatever is bright or dark: the lower
metal shows in the photograph of the layer above it. Masks are compared by how far inside a pixel
lies, so that vias fit the middle of the metal that they meet. A first part is looked for at a few
turns and magnifications; from there, blocks are found outwards; then the map is fitted to the
images as a whole.
"""

import dataclasses
import functools
import itertools

import cv2
import numpy as np
import scipy.sparse

from eal_icnet_jax.imaging import joint_fit, matching, smooth_maps
from eal_icnet_jax.imaging.image_pairs import DEPTHS, ImagePair
from eal_icnet_jax.imaging.joint_fit import Alignment
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.imaging.smooth_maps import SmoothMap
from eal_icnet_jax.system.errors import UserError

LEVELS = {"photographs": (2, 1), "masks": (4, 2, 1)}
"""Factors by which images are reduced, from coarse to fine."""

FIRST_SIDE = 384
"""Side in pixels of a reduced image of the first part that is looked for."""

SMALLEST_SIDE = 480
"""Smallest side in pixels of a reduced image in which a first part is looked for."""

FIRST_PLACES = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))
"""Where the first part is looked for (x, y), relative to the size of the image."""

TURNS = np.radians(np.arange(-5, 5.01, 1.0))
"""Turns of the first part that are tried."""

MAGNIFICATIONS = np.arange(0.95, 1.051, 0.0125)
"""Magnifications of the first part that are tried."""

ABOVE_CHANCE = 1.36
"""By what factor the first part must fit better than its mirror image, which fits by chance."""

PARTS = (("strong", "faint"), ("all", "all"), ("faint", "strong"))
"""Which edges of the reference and of the other image are compared: the reference is below, shows
the same layer, or is above."""

BLOCK, REACH = 256, 12
"""Side of the blocks that are found outwards, and how far they are looked for, in pixels of the
reduced image."""

MOST_BLOCKS = 1500
"""Largest number of blocks that are found outwards."""

FLAT = 1e-3
"""Standard deviation of features below which an image shows nothing."""

SMALLEST_FIT = 0.05
"""Smallest correlation of a block that is used."""

NEIGHBOURS = 16
"""Number of places nearby that say where the next block lies."""

COARSE_BLUR = 4.0
"""Blur of the first fit of masks, in pixels of the reduced images."""

FINE = ((2, 3.0), (2, 1.5), (1, 2.0), (1, 1.0))
"""Reductions and blurs at which the map is fitted to the images as a whole, one after the other."""

LAST_BLUR = 1.0
"""Blur of the correlations in the last fit, in pixels."""

FEWEST_CELLS = 4
"""Smallest number of parts of the image that must show something by which a map is judged."""

SAME_SIZE = 1e-3
"""Largest relative difference of pixel sizes that count as equal."""

LARGEST_DOUBT = 1.5
"""Largest median deviation in pixels of such parts from what the others say."""


class NothingFits(UserError):
    """Two images show nothing that clearly fits."""


def align(
    reference: Mosaic,
    moving: Mosaic,
    model: str,
    reach: int,
    points: tuple[np.ndarray, np.ndarray] | None = None,
) -> Alignment:
    """Find how an image lies over a reference.

    Args:
      reference: photograph or mask of a layer.
      moving: photograph or mask of the same or another layer, about upright. Pixels of another size
        are taken into account where both files state theirs.
      model: one of `smooth_maps.MODELS`.
      reach: largest distance in pixels of the two from each other, before the turn.
      points: (x, y) of the same places in both, `[N, 2]` each, from which to start. Three that form
        a triangle suffice.

    Raises:
      NothingFits: nothing in them fits clearly.
      UserError: a file is damaged, or the model cannot fit.
    """
    pair = ImagePair(reference, moving)
    if model == "rigid" and abs(pair.size_ratio() - 1) > SAME_SIZE:
        raise UserError(
            f"{moving.path} has pixels of another size than {reference.path}, and --model=rigid "
            "keeps the size: name --model=affine"
        )
    for level in LEVELS["masks" if pair.are_masks else "photographs"]:
        if level > 1 and min(reference.shape) < SMALLEST_SIDE * level:
            continue
        if points is None:
            first = _first_part(pair, level, reach)
            mapped = first and _first_map(pair, level, model, *first)
        else:
            mapped = _map_from_points(pair, level, model, *points)
        if mapped is None:
            continue
        found_map, parts = mapped
        for finer, blur in FINE:
            if finer <= level:
                found_map = joint_fit.improve(pair, found_map, finer, parts, blur, model)
        found = joint_fit.finish(pair, found_map, parts, LAST_BLUR, model)
        if len(found.points) >= FEWEST_CELLS and found.doubt <= LARGEST_DOUBT:
            return found
    raise NothingFits(
        f"{moving.path} shows nothing that clearly fits {reference.path}: name the same places in "
        "both with --points, or a larger --search"
    )


def from_points(
    shape: tuple[int, int], model: str, points: np.ndarray, targets: np.ndarray
) -> Alignment:
    """Return the map that points named by hand give. All points count the same.

    Args:
      shape: height and width of the reference.
      model: one of `smooth_maps.MODELS`; a bend takes at least `smooth_maps.FEWEST_FOR_BEND`.
      points: (x, y) in the reference, `[N, 2]`, at least three that form a triangle.
      targets: (x, y) of the same places in the other image, `[N, 2]`.
    """
    sure = np.tile(np.eye(2), (len(points), 1, 1))
    fit = smooth_maps.fit_map(shape, points, targets, sure, model, 0.0)
    unseen = fit.unseen if len(points) > 3 else np.full(len(points), np.nan)
    return Alignment(fit.map, points, fit.deviations, unseen)


def _map_from_points(
    pair: ImagePair, level: int, model: str, points: np.ndarray, targets: np.ndarray
) -> tuple[SmoothMap, tuple[str, str]]:
    """Return a map that starts from points, and the edges that agree best with it.

    They are those whose blocks agree best with one another and with the points.
    """
    start = from_points(pair.reference.shape, model, points, targets).map
    if pair.are_masks:
        return start, DEPTHS
    centre = points.mean(0)
    near = smooth_maps.nearest_map(start, "affine")
    corners = near(np.array([[0.0, 0], [1, 0], [0, 1]]))
    matrix = np.column_stack([corners[1] - corners[0], corners[2] - corners[0], corners[0]])
    fits = [(_found_outwards(pair, level, parts, matrix, centre, model), parts) for parts in PARTS]
    found = [(fit, parts) for fit, parts in fits if fit is not None]
    if not found:
        return start, PARTS[1]

    def disagreement(fit: smooth_maps.Fit) -> float:
        off = np.linalg.norm(fit.map(points) - targets, axis=1)
        return float(np.median(fit.unseen) + np.median(off))

    fit, parts = min(found, key=lambda item: disagreement(item[0]))
    return fit.map, parts


def _first_map(
    pair: ImagePair,
    level: int,
    model: str,
    parts: tuple[str, str],
    matrix: np.ndarray,
    centre: np.ndarray,
) -> tuple[SmoothMap, tuple[str, str]]:
    """Return a map of the whole image from a first part, and the edges that are compared."""
    if parts != DEPTHS:
        fit = _found_outwards(pair, level, parts, matrix, centre, model)
        if fit is not None:
            return fit.map, parts
    mapped = smooth_maps.map_of_matrix(pair.reference.shape, matrix)
    first_model = "rigid" if model == "rigid" else "affine"
    for kind in (first_model, model):  # too few vias lie in a block to find it alone
        mapped = joint_fit.improve(pair, mapped, level, parts, COARSE_BLUR, kind)
    return mapped, parts


def _first_part(
    pair: ImagePair, level: int, reach: int
) -> tuple[tuple[str, str], np.ndarray, np.ndarray] | None:
    """Return edges to compare, the `[2, 3]` matrix of a part that fits clearly, and its middle."""
    height, width = pair.reference.shape
    side = min(FIRST_SIDE, max(min(height, width) // level - 2, 16))
    around = max(-(-reach // level), 4)
    ratio = pair.size_ratio()
    kinds = (PARTS[1], DEPTHS) if pair.are_masks else PARTS
    features = {parts: pair.features(level, parts) for parts in kinds}
    best_of_all = None
    for place in FIRST_PLACES:
        centre = np.rint(np.multiply(place, (width, height)))
        corner = centre - side * level // 2
        square = pair.reference_square(corner, side, level)
        if square is None:
            continue
        flipped = np.ascontiguousarray(square[:, ::-1])
        templates = {
            parts: (first(square), first(flipped)) for parts, (first, _) in features.items()
        }
        found = {parts: _Candidate() for parts in kinds if templates[parts][0].std() > FLAT}
        for turn, magnification in itertools.product(TURNS, MAGNIFICATIONS):
            cos, sin = magnification * np.cos(turn), magnification * np.sin(turn)
            linear = ratio * np.array([[cos, -sin], [sin, cos]])
            matrix = np.column_stack([linear, ratio * centre - linear @ centre])
            window = pair.moved_square(
                functools.partial(_affine, matrix),
                corner - around * level,
                side + 2 * around,
                level,
            )
            if window is None:
                continue
            for parts, candidate in found.items():
                seen = features[parts][1](window)
                if seen.std() > FLAT:
                    candidate.compare(seen, templates[parts], linear)
        for parts, candidate in found.items():
            if candidate.lead > max(ABOVE_CHANCE, best_of_all[0] if best_of_all else 0):
                linear = candidate.linear
                shift = linear @ ((candidate.place - around) * level)
                matrix = np.column_stack([linear, ratio * centre + shift - linear @ centre])
                best_of_all = candidate.lead, parts, matrix, centre
        if best_of_all is not None:
            return best_of_all[1:]
    return None


@dataclasses.dataclass
class _Candidate:
    """The best place of a first part so far, and how well its mirror image fits at best."""

    fit: float = -1.0
    chance: float = 1e-3
    linear: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(2))
    place: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))

    @property
    def lead(self) -> float:
        """By what factor it fits better than its mirror image."""
        return self.fit / self.chance

    def compare(self, seen: np.ndarray, templates: tuple, linear: np.ndarray):
        """Take a place that fits better than all before."""
        fits = [
            np.nan_to_num(cv2.matchTemplate(seen, template, cv2.TM_CCOEFF_NORMED))
            for template in templates
        ]
        _, fit, _, place = cv2.minMaxLoc(fits[0])
        self.chance = max(self.chance, float(fits[1].max()))
        if fit > self.fit:
            self.fit, self.linear, self.place = fit, linear, np.array(place)


def _affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def _found_outwards(
    pair: ImagePair,
    level: int,
    parts: tuple[str, str],
    matrix: np.ndarray,
    centre: np.ndarray,
    model: str,
) -> smooth_maps.Fit | None:
    """Return a map from blocks found outwards from a first part, or None if few are."""
    shape = pair.reference.shape
    first, second = pair.features(level, parts)
    length = BLOCK * level
    counts = [max(1, 2 * side // length - 1) for side in shape]
    shrink = max(1.0, np.sqrt(counts[0] * counts[1] / MOST_BLOCKS))
    y, x = (
        np.rint(np.linspace(0, max(side - length, 0), max(1, round(count / shrink))))
        for side, count in zip(shape, counts, strict=True)
    )
    corners = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    middles = corners + (length - 1) / 2
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for k in np.argsort(np.hypot(*(middles - centre).T)):
        mapped = functools.partial(_affine, _nearby(found, middles[k], matrix))
        block = pair.reference_square(corners[k], BLOCK, level)
        window = pair.moved_square(mapped, corners[k] - REACH * level, BLOCK + 2 * REACH, level)
        if block is None or window is None:
            continue
        match = matching.match(second(window), first(block), SMALLEST_FIT)
        if match is not None:
            (target,) = mapped((middles[k] + (match.shift - REACH) * level)[None])
            found.append((middles[k], target, match.information / level**2))
    if len(found) < 3:
        return None
    points, targets, information = (np.array(values) for values in zip(*found, strict=True))
    return smooth_maps.fit_map(shape, points, targets, information, model, 0.95 * length)


def _nearby(found: list, point: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the `[2, 3]` matrix that places near a point give, little turned from the start.

    Args:
      found: a point, its target and how sure that is, of each place.
      point: (x, y) in the reference.
      start: `[2, 3]`, the matrix of the first part.
    """
    if len(found) < 3:
        return start
    points = np.array([place[0] for place in found])
    near = np.argsort(np.hypot(*(points - point).T))[:NEIGHBOURS]
    targets, information = (np.array([found[k][part] for k in near]) for part in (1, 2))
    residuals = targets - _affine(start, points[near])
    size = np.abs(points[near] - point).max() + 1
    ones = np.ones((len(near), 1))
    columns = np.hstack([ones, (points[near] - point) / size])
    both = np.kron(columns, np.eye(2)).reshape(len(near), 2, 6)
    # Few places say little about turn and scale: those of the start count as much as a place.
    typical = np.median(np.trace(information, axis1=1, axis2=2)) / 2
    prior = typical * np.kron(np.diag([1e-3, 1.0, 1.0]), np.eye(2))
    solved, _ = matching.fit_places(
        scipy.sparse.csr_array(both.reshape(-1, 6)), residuals, information,
        scipy.sparse.csr_array(prior),
    )  # fmt: skip
    solved = solved.reshape(3, 2)
    linear = start[:, :2] + (solved[1:] / size).T
    target = _affine(start, point) + solved[0]
    return np.column_stack([linear, target - linear @ point])
