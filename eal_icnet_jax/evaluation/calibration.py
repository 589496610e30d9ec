"""How often a pixel of a predicted probability is foreground: reliability diagrams, ECE."""

import dataclasses
import json
import pathlib

import numpy as np

from eal_icnet_jax.system.errors import UserError

BINS = 20
"""Number of bins of equal width."""

FEWEST_PIXELS = 100
"""Number of pixels from which a bin says something."""

PLAUSIBLE = 0.05
"""A threshold is plausible where at least this part of the pixels is foreground, and this part is
background."""

UNKNOWN = 0.1, 0.9
"""Thresholds that count as plausible where no calibration is known."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Pixels of each bin of predicted probabilities.

    Attributes:
      pixels: `[BINS]`, number of pixels.
      predicted: `[BINS]`, sum of their probabilities.
      foreground: `[BINS]`, number of those that are foreground.
    """

    pixels: np.ndarray
    predicted: np.ndarray
    foreground: np.ndarray

    @classmethod
    def nothing(cls) -> "Calibration":
        """Return the calibration without a pixel: probabilities are taken for what they say."""
        return cls(*(np.zeros(BINS) for _ in range(3)))

    @classmethod
    def of(cls, probabilities: np.ndarray, label: np.ndarray, valid: np.ndarray) -> "Calibration":
        """Count the pixels of an image.

        Args:
          probabilities: `[H, W]` in [0, 1].
          label: `[H, W]` bool.
          valid: `[H, W]` bool, the pixels that count.
        """
        counted = np.s_[...] if valid.all() else valid  # to choose pixels takes time
        p, y = probabilities[counted].ravel().astype(np.float64), label[counted].ravel()
        bins = np.minimum((p * BINS).astype(int), BINS - 1)
        counts = np.bincount(2 * bins + y, minlength=2 * BINS).reshape(BINS, 2).astype(float)
        return cls(counts.sum(1), np.bincount(bins, p, BINS), counts[:, 1])

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            self.pixels + other.pixels,
            self.predicted + other.predicted,
            self.foreground + other.foreground,
        )

    @property
    def expected_error(self) -> float:
        """The expected calibration error: |predicted - observed|, averaged over the pixels.

        Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599, with bins of equal
        width.
        """
        return float(np.abs(self.predicted - self.foreground).sum() / max(self.pixels.sum(), 1))

    def diagram(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean probability and part of foreground of each bin that says something."""
        said = self.pixels >= FEWEST_PIXELS
        return self.predicted[said] / self.pixels[said], self.foreground[said] / self.pixels[said]

    def chance_of_foreground(self, probability: float) -> float:
        """Return how often a pixel of a probability is foreground.

        Between the bins it is interpolated, and made to rise with the probability.
        """
        predicted, observed = self.diagram()
        if len(predicted) < 2:
            return probability
        return float(np.interp(probability, predicted, np.maximum.accumulate(observed)))

    def plausible_thresholds(self, threshold: float) -> tuple[float, float]:
        """Return the lowest and the highest threshold that may be the right one at some place.

        Args:
          threshold: that is used, which always lies between them.
        """
        predicted, observed = self.diagram()
        if len(predicted) < 2:
            low, high = UNKNOWN
        else:
            observed = np.maximum.accumulate(observed)
            mixed = (observed >= PLAUSIBLE) & (observed <= 1 - PLAUSIBLE)
            edges = np.arange(BINS + 1) / BINS
            inside = np.flatnonzero(self.pixels >= FEWEST_PIXELS)[mixed]
            low, high = (edges[inside[0]], edges[inside[-1] + 1]) if len(inside) else UNKNOWN
        step = 1 / BINS
        return max(min(low, threshold - step), 1e-3), min(max(high, threshold + step), 1 - 1e-3)

    def to_json(self) -> dict:
        """Return a JSON object."""
        return {
            "expected_calibration_error": self.expected_error,
            "pixels": self.pixels.tolist(),
            "predicted": self.predicted.round(3).tolist(),
            "foreground": self.foreground.tolist(),
        }


def read_calibrations(path: pathlib.Path) -> list[Calibration]:
    """Read the calibration of each output from the metrics.json that `eal-icnet evaluate` writes.

    Raises:
      UserError: the file cannot be read, or holds none.
    """
    try:
        content = json.loads(path.read_text())["calibration"].values()
        found = [
            Calibration(
                *(np.array(each[key], float) for key in ("pixels", "predicted", "foreground"))
            )
            for each in content
        ]
        numbers = np.array([[c.pixels, c.predicted, c.foreground] for c in found])
        if numbers.shape[1:] != (3, BINS) or not (np.isfinite(numbers) & (numbers >= 0)).all():
            raise ValueError("its bins are damaged")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} holds no calibration ({type(error).__name__}: {error}): name the metrics.json "
            "that `eal-icnet evaluate` wrote for this network"
        ) from error
    return found
