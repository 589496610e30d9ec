"""How far drawn images are from real photographs: a Frechet distance on simple statistics.

    python benchmarks/drawn_distance.py --data=DIR --kinds=optical_circuit,optical_photographs

DIR is a folder as in real.py. Photographs in colour are compared with drawn optical images, grey
ones with drawn electron images. Both are brought to wires of 16 pixels and cut into squares of
128 pixels. Each square becomes a vector of statistics, which is divided by their standard deviation
in the photographs:

- grey levels of metal, ground and the line between them, and their standard deviations;
- slopes at three blurs, fine noise, and the power of six bands of wavelengths;
- colour, and the part of the square that is metal.

The distance is that of two normal distributions with the means and covariances of these vectors.
`covered` is the part of the photographs' squares that lie no farther from a drawn one than drawn
ones from their fifth neighbours (the 95th percentile): what is not covered is not drawn.
"""

import argparse
import pathlib

import cv2
import numpy as np
from real import labelled_photographs
from scipy import linalg, spatial
from tabulate import tabulate

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.imaging import pixel_values, stretching
from eal_icnet_jax.imaging.wire_width import median_wire_width
from eal_icnet_jax.models.pretrained import PRETRAINED

WIDTH, SIDE = 16, 128
"""Width of the wires and side of the squares in pixels."""

PERCENTILES = PRETRAINED["optical"].preprocessing.stretch
"""Levels that become black and white, as the packaged networks want it."""

SQUARES = 200
"""Largest number of squares of a photograph."""


def statistics(image: np.ndarray, metal: np.ndarray) -> np.ndarray:
    """Return the statistics of a square.

    Args:
      image: RGB `[SIDE, SIDE, 3]` float32 in [0, 1].
      metal: `[SIDE, SIDE]` bool.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    line = cv2.morphologyEx(metal.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
    out = []
    for part in (metal & ~line, ~metal & ~line, line):
        values = grey[part] if part.any() else grey
        out += [values.mean(), values.std()]
    for sigma in (1, 2, 4):
        smooth = cv2.GaussianBlur(grey, (0, 0), sigma)
        slopes = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
        out += [slopes.mean(), np.percentile(slopes, 95)]
    out.append(np.median(np.abs(cv2.Laplacian(grey, cv2.CV_32F))))
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    frequencies = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(SIDE)]))
    for low in (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 3):
        band = (frequencies >= low) & (frequencies < 2 * low)
        out.append(np.log10(power[band].mean() + 1e-3))
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 1:] / 100
    out += [*np.abs(lab).mean((0, 1)), *lab.std((0, 1)), metal.mean()]
    return np.array(out)


def squares(image: np.ndarray, metal: np.ndarray, valid: np.ndarray, count: int, seed: int):
    """Return the statistics of up to so many random squares that show metal and ground."""
    image = pixel_values.to_unit_range(stretching.stretch(image, PERCENTILES), 3)
    width = median_wire_width(metal)
    if not width:
        return []
    size = round(image.shape[1] * WIDTH / width), round(image.shape[0] * WIDTH / width)
    if min(size) < SIDE:
        return []
    method = cv2.INTER_AREA if width > WIDTH else cv2.INTER_CUBIC
    image = np.clip(cv2.resize(image, size, interpolation=method), 0, 1)
    masks = [cv2.resize(mask.astype(np.float32), size) >= 0.5 for mask in (metal, valid)]
    rng = np.random.default_rng(seed)
    low, high = examples.METAL_FRACTION
    out = []
    for _ in range(4 * count):
        top, left = (rng.integers(0, length - SIDE + 1) for length in image.shape[:2])
        part = slice(top, top + SIDE), slice(left, left + SIDE)
        inside, counts = (mask[part] for mask in masks)
        if counts.all() and low < inside.mean() < high:
            out.append(statistics(image[part], inside))
        if len(out) == count:
            break
    return out


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the squared Frechet distance of two sets of vectors `[N, D]`, as normal distributions.

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2))
    """
    covariances = [np.cov(vectors.T) for vectors in (first, second)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    means = np.sum((first.mean(0) - second.mean(0)) ** 2)
    return float(means + np.trace(covariances[0] + covariances[1] - 2 * root))


def covered(real: np.ndarray, drawn: np.ndarray) -> float:
    """Return the part of the real vectors that have a drawn one near them."""
    tree = spatial.cKDTree(drawn)
    reach = np.percentile(tree.query(drawn, k=6)[0][:, 5], 95)
    return float(np.mean(tree.query(real)[0] <= reach))


def photographs(data: pathlib.Path) -> dict[str, tuple[bool, np.ndarray]]:
    """Return whether each photograph has colour, and its squares."""
    out = {}
    for photograph in labelled_photographs(data):
        vectors = squares(photograph.image, photograph.metal, photograph.valid, SQUARES, 0)
        if vectors:
            out[photograph.name] = photograph.has_colour, np.array(vectors)
    return out


def drawn_squares(name: str, images: int, layouts: tuple[pathlib.Path, ...]) -> np.ndarray:
    """Return the squares of some drawn images of a kind, two of each."""
    kind, out = examples.kind_by_name(name), []
    for index in range(images):
        example = examples.draw_example(kind, "test", index, layouts)
        image = example["image"] if kind.optical else example["image"][..., 0]
        metal = example["label"][..., 0] > 0
        out += squares(image, metal, np.ones_like(metal), 2, index)
    return np.array(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--kinds", default="optical_circuit,optical_photographs,sem_circuit,"
                                           "sem_photographs")  # fmt: skip
    parser.add_argument("--images", type=int, default=300, help="drawn images of each kind")
    parser.add_argument("--layouts", type=pathlib.Path, nargs="*", default=[], help="mask files")
    arguments = parser.parse_args()
    real, rows = photographs(arguments.data), []
    for name in arguments.kinds.split(","):
        kind = examples.kind_by_name(name)
        drawn = drawn_squares(name, arguments.images, tuple(arguments.layouts))
        sets = {key: vectors for key, (colour, vectors) in real.items() if colour == kind.optical}
        everything = np.concatenate(list(sets.values()))
        deviations = everything.std(0)
        varies = deviations > 1e-4  # grey photographs have no colour
        scale = deviations[varies]
        drawn = drawn[:, varies] / scale
        for key, vectors in (*sets.items(), ("all of them", everything)):
            vectors = vectors[:, varies] / scale
            distance = frechet_distance(vectors, drawn)
            share = 100 * covered(vectors, drawn)
            rows.append((name, key, len(vectors), distance, share))
    headers = ("drawn", "photograph", "squares", "distance", "covered %")
    print(tabulate(rows, headers, "github", floatfmt=".1f"))


if __name__ == "__main__":
    main()
