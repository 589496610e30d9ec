"""The paper's metrics of masks: mIoU, MPA, Dice, AJI and AJI+; and electrical differences."""

import functools
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from eal_icnet_jax.evaluation import electrical, stack_differences
from eal_icnet_jax.evaluation.electrical import ElectricalDifferences
from eal_icnet_jax.evaluation.stack_differences import NetDifferences
from eal_icnet_jax.imaging.regions import connected_regions
from eal_icnet_jax.imaging.stack_regions import Mask

METRICS = ("mIoU", "MPA", "Dice", "AJI", "AJI_plus")
"""Names of the metrics that `evaluate_masks` returns."""

COUNTS = {"opens": "opens", "shorts": "shorts", "false_positives": "FP", "false_negatives": "FN"}
"""Table heading of each electrically significant difference."""


def _ratio(numerator: float, denominator: float, empty: float) -> float:
    return float(numerator / denominator) if denominator else empty


Connected = tuple[np.ndarray, np.ndarray]
"""Region of each pixel and statistics of each region, as `connected_regions` returns them."""


def aggregated_jaccard(label: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Compute the aggregated Jaccard index over 8-connected regions, and its variant AJI+.

    AJI (Kumar et al., 2017) pairs each true region with the predicted region of highest IoU, which
    may be in several pairs. AJI+ (Graham et al., 2019) pairs regions one to one for the highest sum
    of IoU. Either is the sum of the pairs' intersections divided by the sum of their unions and of
    the areas of all regions without a partner.

    Args:
      label: mask `[H, W]`, non-zero is foreground.
      prediction: mask `[H, W]`.

    Returns:
      (AJI, AJI+), each in [0, 1]. Both are 1 if both masks are empty, and 0 if one of them is.
    """
    return _jaccard(connected_regions(label), connected_regions(prediction))


def _jaccard(label: Connected, prediction: Connected) -> tuple[float, float]:
    (true, true_statistics), (predicted, predicted_statistics) = label, prediction
    true_area, predicted_area = (
        statistics[1:, cv2.CC_STAT_AREA].astype(np.int64)
        for statistics in (true_statistics, predicted_statistics)
    )
    if not len(true_area) or not len(predicted_area):
        trivial = float(len(true_area) == len(predicted_area))
        return trivial, trivial
    # Each overlapping pair of regions once, with the number of pixels it shares.
    both = (true > 0) & (predicted > 0)
    pairs, shared = np.unique(
        (true[both].astype(np.int64) - 1) * len(predicted_area) + predicted[both] - 1,
        return_counts=True,
    )
    i, j = np.divmod(pairs, len(predicted_area))
    union = true_area[i] + predicted_area[j] - shared
    iou = shared / union

    def score(chosen: np.ndarray) -> float:
        unpaired_true = np.delete(true_area, i[chosen]).sum()
        unpaired_predicted = np.delete(predicted_area, j[chosen]).sum()
        total = union[chosen].sum() + unpaired_true + unpaired_predicted
        return float(shared[chosen].sum() / total)

    by_true = np.lexsort((j, -iou, i))
    is_best = np.ones(len(i), bool)
    is_best[1:] = i[by_true][1:] != i[by_true][:-1]
    return score(by_true[is_best]), score(_one_to_one(i, j, iou))


def _one_to_one(i: np.ndarray, j: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Return the indices of the pairs (i, j) of highest sum of IoU, each region at most once."""
    # Most pairs share no region with another pair: only the others need the assignment.
    isolated = (np.bincount(i)[i] == 1) & (np.bincount(j)[j] == 1)
    contested = np.flatnonzero(~isolated)
    if not len(contested):
        return np.flatnonzero(isolated)
    rows, row = np.unique(i[contested], return_inverse=True)
    columns, column = np.unique(j[contested], return_inverse=True)
    # A matching must be complete, so each row may also take a column of its own. One is added to
    # all weights, which adds the same to every matching.
    own = np.arange(len(rows))
    row, column = np.append(row, own), np.append(column, len(columns) + own)
    weights = coo_array((np.append(iou[contested], np.zeros(len(rows))) + 1, (row, column)))
    pairs = coo_array((np.append(contested + 1, np.zeros(len(rows), int)), (row, column))).tocsr()
    matching = min_weight_full_bipartite_matching(weights.tocsr(), maximize=True)
    chosen = np.asarray(pairs[matching]).ravel()
    return np.concatenate([np.flatnonzero(isolated), chosen[chosen > 0] - 1])


def _as_masks(
    label: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both masks without the pixels that do not count, and which pixels count."""
    label, prediction = np.asarray(label) != 0, np.asarray(prediction) != 0
    if label.ndim != 2 or label.shape != prediction.shape or not label.size:
        raise ValueError(
            "label and prediction must be masks [H, W] of one size, "
            f"but are {label.shape} and {prediction.shape}"
        )
    if valid is None:
        return label, prediction, np.ones(label.shape, bool)
    valid = np.asarray(valid) != 0
    if valid.shape != label.shape or not valid.any():
        raise ValueError(
            f"valid must be a mask of the label's size {label.shape} in which some pixels count, "
            f"but is {valid.shape} with {np.count_nonzero(valid)} such pixels"
        )
    return label & valid, prediction & valid, valid


class MaskComparison:
    """A label and a prediction, whose connected regions are found once for all metrics.

    Args:
      label: mask `[H, W]`, non-zero is foreground.
      prediction: mask `[H, W]`.
      valid: mask `[H, W]` of the pixels that count; None for all.

    Raises:
      ValueError: the shapes differ, or are not two-dimensional, or no pixel counts.
    """

    def __init__(self, label: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None = None):
        self._label, self._prediction, self._valid = _as_masks(label, prediction, valid)

    @functools.cached_property
    def _connected(self) -> tuple[Connected, Connected]:
        return connected_regions(self._label), connected_regions(self._prediction)

    def metrics(self) -> dict[str, float]:
        """Compute what `evaluate_masks` returns."""
        label, prediction = self._label, self._prediction
        tp = int(np.count_nonzero(label & prediction))
        fn = int(np.count_nonzero(label)) - tp
        fp = int(np.count_nonzero(prediction)) - tp
        tn = int(np.count_nonzero(self._valid)) - tp - fn - fp
        iou = [hit / total for hit, total in ((tn, tn + fp + fn), (tp, tp + fp + fn)) if total]
        accuracy = [hit / total for hit, total in ((tn, tn + fp), (tp, tp + fn)) if total]
        aji, aji_plus = _jaccard(*self._connected)
        return {
            "mIoU": float(np.mean(iou)),
            "MPA": float(np.mean(accuracy)),
            "Dice": _ratio(2 * tp, 2 * tp + fp + fn, 1.0),
            "AJI": aji,
            "AJI_plus": aji_plus,
        }

    def electrical_regions(
        self, min_wire_area: float = electrical.MIN_WIRE_AREA, border: int | None = None
    ) -> tuple[electrical.Regions, electrical.Regions]:
        """Return the nets and wires that `electrically_significant_differences` counts."""
        label, prediction = self._connected
        nets = electrical.Regions.of_connected(*label, 0, border)
        if not self._valid.all():
            nets = nets.without_cut_pieces(self._valid, min_wire_area)
        return nets, electrical.Regions.of_connected(*prediction, min_wire_area, border)

    def differences(
        self, min_wire_area: float = electrical.MIN_WIRE_AREA, border: int | None = None
    ) -> ElectricalDifferences:
        """Count what `electrically_significant_differences` returns."""
        return electrical.match_masks(*self.electrical_regions(min_wire_area, border)).differences()


def evaluate_masks(
    label: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None = None
) -> dict[str, float]:
    """Compute the paper's metrics of one image.

    Args:
      label: mask `[H, W]`, non-zero is foreground.
      prediction: mask `[H, W]`.
      valid: mask `[H, W]` of the pixels that count; None for all. What the others hold changes
        nothing.

    Returns:
      Values in [0, 1]:
        mIoU: IoU averaged over background and foreground.
        MPA: fraction of a class's pixels that are predicted so, averaged over both classes.
        Dice: 2 TP / (2 TP + FP + FN) of the foreground.
        AJI, AJI_plus: see `aggregated_jaccard`.
      A class that neither mask has is left out of the mIoU, and one that the label lacks is left
      out of the MPA. So every value is 1 if both masks are empty or both are all foreground. If
      only one mask is empty, Dice, AJI and AJI+ are 0; if that is the label, the MPA is the
      fraction of background that is predicted so.

    Raises:
      ValueError: the shapes differ, or are not two-dimensional, or no pixel counts.
    """
    return MaskComparison(label, prediction, valid).metrics()


def electrically_significant_differences(
    label: np.ndarray | Sequence,
    prediction: np.ndarray | Sequence,
    valid: np.ndarray | None = None,
    *,
    size: tuple[int, int] | None = None,
    min_wire_area: float = electrical.MIN_WIRE_AREA,
    border: int | None = None,
) -> ElectricalDifferences:
    """Count opens, shorts, false positives and false negatives (Rothaug et al., ASHES 2023).

    A connected region of the label's metal is a net, one of the prediction's metal is a wire. Wires
    below an area are ignored as noise. Nets and wires entirely within the image's border are
    ignored too, because only neighbouring tiles show where they lead. The defaults are those of the
    published evaluation.

    Masks and polygons are counted alike, up to single pixels: in masks, 8-neighbours are connected
    and an area is a number of pixels; polygons are connected if they share a point. For the three
    tiles of `tests/golden`, both give the counts of the published evaluation, which compares label
    polygons with contours through the centres of a mask's outermost pixels.

    Args:
      label: mask `[H, W]`, non-zero is metal, or a sequence of `shapely.Polygon` in pixels.
      prediction: of the same kind.
      valid: mask `[H, W]` of the pixels that count, for masks; None for all. Pieces of nets below
        `min_wire_area` that other pixels cut off are ignored like such wires.
      size: height and width of the image of the polygons, for the border; None for no border.
      min_wire_area: smallest area of a wire in pixels.
      border: width in pixels; None for 35, or an eighth of the image's shorter side if that is
        less.

    Raises:
      ValueError: the masks' shapes differ, no pixel counts, or `valid` comes with polygons.
    """
    if isinstance(label, np.ndarray) and label.dtype != object:
        comparison = MaskComparison(label, np.asarray(prediction), valid)
        return comparison.differences(min_wire_area, border)
    if valid is not None:
        raise ValueError("valid is for masks: cut the polygons instead")
    matching = electrical.match_polygons(list(label), list(prediction), size, min_wire_area, border)
    return matching.differences()


def net_differences(
    label: Sequence[Mask],
    prediction: Sequence[Mask],
    *,
    min_wire_area: float = electrical.MIN_WIRE_AREA,
    border: int | None = None,
) -> NetDifferences:
    """Count opens, shorts, false positives and false negatives of nets that go over layers.

    The definition of `electrically_significant_differences`, carried to stacks: a net is what is
    connected in the label's stack, through vias too, a wire what is connected in the prediction's,
    and they touch where their metal shares a pixel of one layer.

    Args:
      label: masks `[H, W]` of one size, from the lowest to the highest: metal, via, metal, and so
        on; non-zero is inside.
      prediction: likewise.
      min_wire_area: smallest number of metal pixels of a wire.
      border: width in pixels of the image's border; nets and wires within it do not count. None for
        35, or an eighth of the image's shorter side if that is less.

    Returns:
      The numbers, and the place of each open and short.

    Raises:
      ValueError: the stacks differ in size or number of layers, or end with vias.
    """
    shapes = {mask.shape for mask in (*label, *prediction)}
    if len(shapes) != 1 or len(label) != len(prediction) or len(label) % 2 == 0:
        raise ValueError(
            "the stacks must have the same layers of one size, metal below and above all vias, but "
            f"have {len(label)} and {len(prediction)} layers of {sorted(shapes)}"
        )
    return stack_differences.compare_stacks(label, prediction, min_wire_area, border)


def average(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Average the metrics over images, as the paper reports them."""
    rows = list(rows)
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}
