"""Time AJI and AJI+ on a 1024x1024 mask with about 2,000 regions.

python benchmarks/aji.py
"""

import statistics
import time

import cv2
import numpy as np

from eal_icnet_jax.evaluation import metrics

RUNS = 15


def main():
    grid_y, grid_x = np.indices((1024, 1024))
    label = ((grid_y % 23 < 15) & (grid_x % 22 < 14)).astype(np.uint8)
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.standard_normal((1024, 1024)), (0, 0), 3)
    prediction = label ^ (np.abs(noise) > 0.2).astype(np.uint8)
    true, predicted = (cv2.connectedComponents(mask)[0] - 1 for mask in (label, prediction))
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        metrics.aggregated_jaccard(label, prediction)
        seconds.append(time.perf_counter() - start)
    print(
        f"{true} true and {predicted} predicted regions, {RUNS} runs: "
        f"median {1e3 * statistics.median(seconds):.1f} ms, worst {1e3 * max(seconds):.1f} ms"
    )


if __name__ == "__main__":
    main()
