"""Measure the outlines of drawn metal: area, vertices, straight edges and seconds.

    python benchmarks/outlines.py

Draws the metal of dies, exactly and with rough edges as a network predicts them, and compares the
default outlines and `--manhattan` with the outlines through pixel edges that Douglas-Peucker
simplifies by 0.5 pixels.
"""

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import shapely

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.vector import outlines
from eal_icnet_jax.vector.layout_options import ShapeOptions
from eal_icnet_jax.vector.manhattan import to_manhattan
from eal_icnet_jax.vector.pixel_rings import PixelRings
from eal_icnet_jax.vector.simplification import simplify

Polygons = list[shapely.Polygon]
OPTIONS = ShapeOptions()
SHAPES: dict[str, Callable[[PixelRings], Polygons]] = {
    "Douglas-Peucker": lambda rings: list(shapely.simplify(rings.midpoints(), 0.5)),
    "default": lambda rings: simplify(rings, OPTIONS.tolerance),
    "manhattan": lambda rings: to_manhattan(rings, OPTIONS.jog),
}


def draw_metal(seed: int, size: int) -> np.ndarray:
    """Return the mask `[size, size]` of a die's metal."""
    drawn = die.Die(size, size, seed, optical=False)
    fields = [die.draw_field(drawn, index)["metal"] for index in range(np.prod(drawn.fields()))]
    columns = drawn.fields()[1]
    rows = [fields[k : k + columns] for k in range(0, len(fields), columns)]
    return np.block(rows) > 0


def roughened(mask: np.ndarray, blur: float) -> np.ndarray:
    """Return a mask whose edges are up to a pixel further in or out, by noise of some blur."""
    inside, outside = (
        cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        for side in (mask, ~mask)
    )
    noise = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur)
    # Distances are 1 at the pixels on both sides of an edge, which lies between them.
    distance = np.where(mask, inside - 0.5, 0.5 - outside)
    return distance + np.clip(0.6 * noise / noise.std(), -1, 1) > 0


def straight_shares(polygons: Polygons) -> tuple[float, float]:
    """Return the shares in percent of horizontal and vertical, and of diagonal edges."""
    points, ring_of = shapely.get_coordinates(shapely.get_rings(polygons), return_index=True)
    steps = np.abs(np.diff(points, axis=0)[ring_of[1:] == ring_of[:-1]])
    lengths = np.hypot(*steps.T)
    is_straight, is_diagonal = (steps == 0).any(1), steps[:, 0] == steps[:, 1]
    return tuple(100 * lengths[k].sum() / lengths.sum() for k in (is_straight, is_diagonal))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096, help="side of a die in pixels (4096)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 7], help="of dies (3 5 7)")
    arguments = parser.parse_args()
    print("| die | edges | outlines | vertices | area, % | axis-parallel, diagonal, % | seconds |")
    print("|---|---|---|---:|---:|---:|---:|")
    for seed in arguments.seeds:
        metal = draw_metal(seed, arguments.size)
        for edges, blur in (("drawn", 0), ("smooth noise", 3), ("rough noise", 1)):
            mask = roughened(metal, blur) if blur else metal
            rings = outlines.trace(mask)
            for name, shape in SHAPES.items():
                start = time.perf_counter()
                shapes = shape(rings)
                seconds = time.perf_counter() - start
                area = 100 * (shapely.area(shapes).sum() / np.count_nonzero(mask) - 1)
                straight, diagonal = straight_shares(shapes)
                vertices = shapely.get_num_coordinates(shapes).sum()
                print(
                    f"| {seed} | {edges} | {name} | {vertices:,} | {area:+.3f} | "
                    f"{straight:.1f}, {diagonal:.1f} | {seconds:.2f} |"
                )


if __name__ == "__main__":
    main()
