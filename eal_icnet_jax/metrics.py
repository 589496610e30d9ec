"""The paper's metrics on masks, mIoU, MPA, Dice, AJI and AJI+; and what is electrically wrong."""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from eal_icnet_jax import electrical
from eal_icnet_jax.electrical import ElectricalDifferences

METRICS = ("mIoU", "MPA", "Dice", "AJI", "AJI_plus")
COUNTS = {"opens": "opens", "shorts": "shorts", "false_positives": "FP", "false_negatives": "FN"}
"""Headings of the electrically significant differences; a table tells of how many `nets` beside."""


def _ratio(numerator: float, denominator: float, empty: float) -> float:
    return float(numerator / denominator) if denominator else empty


def _regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8-connected regions: their image (0 is background) and their areas, from region 1 on."""
    regions, statistics = electrical.connected(mask)
    return regions, statistics[1:, cv2.CC_STAT_AREA].astype(np.int64)


def aggregated_jaccard(label: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Aggregated Jaccard index over 8-connected regions, and its one-to-one variant AJI+.

    AJI (Kumar et al., 2017) gives each true region the predicted region of highest IoU, which
    several may share; AJI+ (Graham et al., 2019) pairs regions one to one for the highest sum of
    IoU. Either is the sum of the pairs' intersections over the sum of their unions, to which the
    regions left without a partner add their areas.

    Args:
      label, prediction: masks `[H, W]`, non-zero is foreground.

    Returns:
      (AJI, AJI+), each in [0, 1]; both masks empty: 1; one of them empty: 0.
    """
    true, true_area = _regions(label)
    predicted, predicted_area = _regions(prediction)
    if not len(true_area) or not len(predicted_area):
        score = float(len(true_area) == len(predicted_area))
        return score, score
    # Each overlapping pair of regions, once, with the pixels it shares.
    both = (true > 0) & (predicted > 0)
    pairs, shared = np.unique(
        (true[both].astype(np.int64) - 1) * len(predicted_area) + predicted[both] - 1,
        return_counts=True,
    )
    i, j = np.divmod(pairs, len(predicted_area))
    union = true_area[i] + predicted_area[j] - shared
    iou = shared / union

    def score(chosen: np.ndarray) -> float:
        alone_true = np.delete(true_area, i[chosen]).sum()
        alone_predicted = np.delete(predicted_area, j[chosen]).sum()
        return float(shared[chosen].sum() / (union[chosen].sum() + alone_true + alone_predicted))

    by_true = np.lexsort((j, -iou, i))
    first = np.ones(len(i), bool)
    first[1:] = i[by_true][1:] != i[by_true][:-1]
    return score(by_true[first]), score(_one_to_one(i, j, iou))


def _one_to_one(i: np.ndarray, j: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Indices of the pairs (i, j) that together have the highest sum of IoU, each region once."""
    alone = (np.bincount(i)[i] == 1) & (np.bincount(j)[j] == 1)
    contested = np.flatnonzero(~alone)
    rows, row = np.unique(i[contested], return_inverse=True)
    columns, column = np.unique(j[contested], return_inverse=True)
    pair = np.full((len(rows), len(columns)), -1)
    pair[row, column] = contested
    weight = np.where(pair >= 0, iou[pair], 0)
    chosen = pair[linear_sum_assignment(weight, maximize=True)]
    return np.concatenate([np.flatnonzero(alone), chosen[chosen >= 0]])


def _masks(label: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    label, prediction = np.asarray(label) != 0, np.asarray(prediction) != 0
    if label.ndim != 2 or label.shape != prediction.shape or not label.size:
        raise ValueError(
            "label and prediction must be masks [H, W] of one size, "
            f"but are {label.shape} and {prediction.shape}"
        )
    return label, prediction


def evaluate_masks(label: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """The paper's metrics of one image.

    Args:
      label, prediction: masks of one shape `[H, W]`, non-zero is foreground.

    Returns:
      Figures in [0, 1]:
        mIoU: IoU averaged over background and foreground.
        MPA: the fraction of a true class's pixels that are found, averaged likewise.
        Dice: 2 TP / (2 TP + FP + FN) of the foreground.
        AJI, AJI_plus: see `aggregated_jaccard`.
      A class that neither mask has is left out of the mIoU, one that the label lacks out of the
      MPA. So where both masks are empty, or both are all foreground, every figure is 1. Against an
      empty label any other prediction has Dice, AJI and AJI+ 0, and as MPA the fraction of
      background found; an empty prediction against any other label has Dice, AJI and AJI+ 0.

    Raises:
      ValueError: the shapes differ, or are not two-dimensional.
    """
    label, prediction = _masks(label, prediction)
    tp = np.count_nonzero(label & prediction)
    fn = np.count_nonzero(label) - tp
    fp = np.count_nonzero(prediction) - tp
    tn = label.size - tp - fn - fp
    iou = [hit / total for hit, total in ((tn, tn + fp + fn), (tp, tp + fp + fn)) if total]
    accuracy = [hit / total for hit, total in ((tn, tn + fp), (tp, tp + fn)) if total]
    aji, aji_plus = aggregated_jaccard(label, prediction)
    return {
        "mIoU": float(np.mean(iou)),
        "MPA": float(np.mean(accuracy)),
        "Dice": _ratio(2 * tp, 2 * tp + fp + fn, 1.0),
        "AJI": aji,
        "AJI_plus": aji_plus,
    }


def electrically_significant_differences(
    label: np.ndarray | Sequence,
    prediction: np.ndarray | Sequence,
    *,
    size: tuple[int, int] | None = None,
    smallest: float = electrical.SMALLEST,
    border: int | None = None,
) -> ElectricalDifferences:
    """Opens, shorts, false positives and false negatives, after Rothaug et al. (ASHES 2023).

    A label's metal that hangs together is a net, a prediction's a wire. Wires below an area are
    noise and ignored, and so are nets and wires that lie in the image's border alone, where
    neighbouring tiles would tell more. The defaults are the published evaluation's.

    Masks and polygons count alike but where a pixel decides: on masks 8-neighbours hang together,
    and an area is its pixels; polygons hang together where they share a point, and an area is the
    polygon's. On the three tiles of `tests/golden` both meet the published evaluation's counts,
    which compares label polygons with contours through the centres of a mask's outermost pixels.

    Args:
      label, prediction: both masks `[H, W]`, non-zero is metal, or both sequences of
        `shapely.Polygon`, in pixels.
      size: height and width of the image of the polygons, for the border; None: it has none.
      smallest: area in pixels that a wire has at least.
      border: width in pixels; None: 35, or an eighth of the image's shorter side if that is less.

    Raises:
      ValueError: masks of different shapes.
    """
    if isinstance(label, np.ndarray) and label.dtype != object:
        nets, wires = electrical_regions(label, prediction, smallest=smallest, border=border)
        return electrical.match_masks(nets, wires).differences()
    return electrical.match_polygons(label, prediction, size, smallest, border).differences()


def electrical_regions(
    label: np.ndarray,
    prediction: np.ndarray,
    *,
    smallest: float = electrical.SMALLEST,
    border: int | None = None,
) -> tuple[electrical.Regions, electrical.Regions]:
    """Nets and wires of two masks `[H, W]`, as `electrically_significant_differences` counts."""
    label, prediction = _masks(label, prediction)
    nets = electrical.Regions.of(label, 0, border)
    return nets, electrical.Regions.of(prediction, smallest, border)


def average(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The metrics averaged over images, as the paper reports them."""
    rows = list(rows)
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}
