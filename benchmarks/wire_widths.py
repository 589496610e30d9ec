"""Measure how well `--scale=auto` finds the width of wires in drawn photographs.

    python benchmarks/wire_widths.py --kind=optical_photographs --images=40

Each image of the test split is drawn, and the width that `eal-icnet predict` finds in it is
compared with the median width of its label. Prints on how many images they agree, and the median of
their ratio.
"""

import argparse
import pathlib

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.imaging.mosaics import mosaic_from_array
from eal_icnet_jax.imaging.wire_width import median_wire_width
from eal_icnet_jax.inference.image_prediction import ImagePrediction
from eal_icnet_jax.inference.prediction_models import ModelChoice
from eal_icnet_jax.inference.prediction_options import ImageOptions
from eal_icnet_jax.models import checkpoints, pretrained


def ratio(example: dict[str, np.ndarray], choice: ModelChoice) -> float | None:
    """Return the width that is found, relative to the true one; None without wires."""
    true = median_wire_width(example["label"][..., 0])
    if not true:
        return None
    image = example["image"]
    pixels = image if image.shape[2] == 3 else image[..., 0]
    mosaic = mosaic_from_array(pathlib.Path("drawn"), pixels)
    prediction = ImagePrediction(mosaic, choice, ImageOptions())
    return prediction.model.spec.preprocessing.wire_width / prediction.scale.factor / true


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kind", default="optical_photographs", help="of ic_synthetic")
    parser.add_argument("--images", type=int, default=40, help="number of images")
    parser.add_argument("--checkpoint", help="the packaged weights by default")
    arguments = parser.parse_args()
    packaged = "sem" if arguments.kind.startswith("sem") else "optical"
    if arguments.checkpoint:
        model = checkpoints.load_model(arguments.checkpoint)
    else:
        model = pretrained.load_pretrained(packaged)
    choice, kind = ModelChoice(model), examples.kind_by_name(arguments.kind)
    drawn = (examples.draw_example(kind, "test", k) for k in range(arguments.images))
    ratios = np.array([found for example in drawn if (found := ratio(example, choice))])
    octaves = np.abs(np.log2(ratios))
    shares = ", ".join(
        f"{100 * np.mean(octaves <= np.log2(bound)):.0f}% within a factor of {bound}"
        for bound in (1.2, 1.5, 2)
    )
    print(f"{len(ratios)} images: {shares}; median of found over true {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
