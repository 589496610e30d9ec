"""A contact sheet of a builder config: images above, with the outlines of their labels below.

python -m eal_icnet_jax.datasets.ic_synthetic.contact_sheet optical_circuit OUT.jpg
"""

import argparse
import pathlib

import cv2
import numpy as np
from eal_icnet_jax.datasets.ic_synthetic.examples import KINDS, draw_example

OUTLINES = {"label": (230, 159, 0), "via_label": (86, 180, 233)}


def outlined(example: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The image as RGB `[H, W, 3]`, without and with the outlines of its labels."""
    image = np.repeat(example["image"], 3 // example["image"].shape[-1], -1)
    marked = image.copy()
    for key, colour in OUTLINES.items():
        if key in example:
            contours, _ = cv2.findContours(
                example[key][..., 0], cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
            )
            thickness = len(image) // 256
            cv2.drawContours(marked, contours, -1, colour, thickness)
    return image, marked


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = {kind.name: kind for kind in KINDS}
    parser.add_argument("config", choices=kinds)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=6)
    arguments = parser.parse_args()
    columns = []
    for index in range(arguments.count):
        example = draw_example(kinds[arguments.config], "train", index)
        pair = [
            cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA)
            for image in outlined(example)
        ]
        columns.append(np.vstack(pair))
    if not cv2.imwrite(str(arguments.output), np.hstack(columns)[..., ::-1]):
        raise SystemExit(f"error: {arguments.output} cannot be written")


if __name__ == "__main__":
    main()
