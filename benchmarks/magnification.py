"""Accuracy on one photograph with a hand-drawn mask, by how much the photograph is magnified.

    python benchmarks/magnification.py --checkpoint=DIR --image=PHOTO --label=MASK --output=DIR

A network knows lines of the width that it was trained on; this says at which magnification a
photograph meets them. The mask may be larger than the photograph, if it shows the same field.
"""

import argparse
import pathlib

import cv2
import numpy as np

from eal_icnet_jax import checkpoints, images, metrics, pictures
from eal_icnet_jax.predictor import Predictor


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("checkpoint", "image", "label", "output"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 2, 3, 4])
    arguments = parser.parse_args()
    model = checkpoints.load_model(arguments.checkpoint)
    channels = dict(model.spec.options)["in_channels"]
    predictor = Predictor(model)
    photo = images.read(arguments.image)
    size = photo.shape[1::-1]
    label = images.read(arguments.label)
    label = cv2.resize(label, size, interpolation=cv2.INTER_AREA) > np.iinfo(label.dtype).max / 2
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(f"{'magnified':>9s}" + "".join(f"{name:>10s}" for name in metrics.METRICS))
    for factor in arguments.factors:
        larger = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        unit = images.to_unit_range(larger, channels)
        probabilities = predictor.probabilities(unit[None])[0, ..., 0]
        mask = cv2.resize(probabilities, size, interpolation=cv2.INTER_AREA) >= 0.5
        figures = metrics.evaluate_masks(label, mask)
        print(f"{factor:9.1f}" + "".join(f"{100 * v:10.2f}" for v in figures.values()))
        path = arguments.output / f"magnified_{factor:g}.png"
        shown = images.to_unit_range(photo, 3)
        images.write(
            path, np.hstack([pictures.overlay(shown, mask), pictures.error_map(label, mask)])
        )


if __name__ == "__main__":
    main()
