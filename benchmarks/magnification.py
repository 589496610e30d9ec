"""Measure accuracy on a photograph with a hand-drawn mask, by the photograph's magnification.

    python benchmarks/magnification.py --checkpoint=DIR --image=PHOTO --label=MASK --output=DIR

A network knows lines of the width on which it was trained. The table shows the magnification at
which the photograph has such lines. The mask may be larger than the photograph if both show the
same field.
"""

import argparse
import pathlib

import cv2
import numpy as np
from tabulate import tabulate

from eal_icnet_jax.evaluation import metrics, pictures
from eal_icnet_jax.imaging import decoding, overlays, pixel_values, png
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.models import checkpoints


def magnified_mask(predictor: Predictor, photo: np.ndarray, channels: int, factor: float):
    """Return the mask `[H, W]` of a photograph that is predicted magnified."""
    larger = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    image = pixel_values.to_unit_range(larger, channels)
    probabilities = predictor.probabilities(image[None])[0, ..., 0]
    return cv2.resize(probabilities, photo.shape[1::-1], interpolation=cv2.INTER_AREA) >= 0.5


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("checkpoint", "image", "label", "output"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 2, 3, 4])
    arguments = parser.parse_args()
    model = checkpoints.load_model(arguments.checkpoint)
    channels = dict(model.spec.options)["in_channels"]
    predictor = Predictor(model)
    photo = decoding.read(arguments.image)
    label = decoding.read(arguments.label)
    half = np.iinfo(label.dtype).max / 2
    label = cv2.resize(label, photo.shape[1::-1], interpolation=cv2.INTER_AREA) > half
    arguments.output.mkdir(parents=True, exist_ok=True)
    shown = pixel_values.to_unit_range(photo, 3)
    rows = []
    for factor in arguments.factors:
        mask = magnified_mask(predictor, photo, channels, factor)
        scores = metrics.evaluate_masks(label, mask)
        rows.append((factor, *(100 * score for score in scores.values())))
        path = arguments.output / f"magnified_{factor:g}.png"
        png.write(path, np.hstack([overlays.overlay(shown, mask), pictures.error_map(label, mask)]))
    print(tabulate(rows, ("magnified", *metrics.METRICS), floatfmt=("g", *[".2f"] * 5)))


if __name__ == "__main__":
    main()
