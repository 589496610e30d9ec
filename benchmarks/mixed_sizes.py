"""A folder of images of many sizes: programs that sizes share against one for each size.

    python benchmarks/mixed_sizes.py --images=40

Draws sizes between 200 and 1000 pixels a side and predicts an image of each, all programs compiled
anew, as on the first day, in turns.
"""

import argparse
import statistics
import time

import jax
import numpy as np
from flax import nnx

from eal_icnet_jax import models, predictor


def seconds(images: list[np.ndarray], model: nnx.Module, cost: float) -> float:
    """Time to predict them all by a new `Predictor` to which a program costs that many pixels."""
    jax.clear_caches()
    predictor.PROGRAM_COST = cost
    ours = predictor.Predictor(model)
    start = time.perf_counter()
    for image in images:
        ours.probabilities(image)
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
    shared = predictor.PROGRAM_COST
    times = [
        [seconds(images, model, cost) for cost in (shared, -1)] for _ in range(arguments.rounds)
    ]
    ours, each = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(
        f"{arguments.images} sizes: shared {ours:.1f} s, one each {each:.1f} s, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
