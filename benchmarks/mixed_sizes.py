"""Time prediction of images of many sizes: with shared programs, and with one program per size.

    python benchmarks/mixed_sizes.py --images=40

Draws sizes between 200 and 1000 pixels a side and predicts one image of each size. Both ways run
alternately, and every run compiles all its programs.
"""

import argparse
import statistics
import time

import jax
import numpy as np
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.inference import predictor


def seconds(images: list[np.ndarray], model: nnx.Module, cost: float) -> float:
    """Return the seconds in which a new `Predictor` compiles its programs and predicts all images.

    Args:
      images: arrays `[1, H, W, 1]`.
      model: network in evaluation mode.
      cost: value of `predictor.PROGRAM_COST`, the cost of a program in pixels.
    """
    jax.clear_caches()
    predictor.PROGRAM_COST = cost
    fresh = predictor.Predictor(model)
    start = time.perf_counter()
    for image in images:
        fresh.probabilities(image)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    sizes = rng.integers(200, 1001, (arguments.images, 2))
    images = [rng.random((1, *size, 1), np.float32) for size in sizes]
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(0))
    model.eval()
    costs = (predictor.PROGRAM_COST, -1)
    times = [[seconds(images, model, cost) for cost in costs] for _ in range(arguments.rounds)]
    shared, separate = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(
        f"{arguments.images} sizes: shared programs {shared:.1f} s, "
        f"one program per size {separate:.1f} s, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
