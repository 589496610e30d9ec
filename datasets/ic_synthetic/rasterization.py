"""Layers drawn on a supersampled canvas, and distances to the drawn edges."""

from collections.abc import Iterable

import cv2
import numpy as np

from eal_icnet_jax.datasets.ic_synthetic.geometry import Layer

SUPERSAMPLING = 2
"""Pixels of the canvas per pixel of the micrograph, along each axis."""

FRACTION_BITS = 4
"""Fractional bits of the coordinates that OpenCV draws."""


def fill_polygons(canvas: np.ndarray, polygons: Iterable[np.ndarray], value: int):
    """Draw filled polygons on a supersampled canvas.

    Args:
      canvas: `[SUPERSAMPLING * size, SUPERSAMPLING * size]` uint8, is changed.
      polygons: points `[N, 2]` of each, in pixels of the micrograph.
      value: that they get.
    """
    scale = SUPERSAMPLING * (1 << FRACTION_BITS)
    # On a supersampled canvas, the centre of micrograph pixel 0 lies between pixels.
    shift = (SUPERSAMPLING - 1) / 2 * (1 << FRACTION_BITS)
    for polygon in polygons:
        points = np.rint(np.asarray(polygon) * scale + shift).astype(np.int32)
        cv2.fillPoly(canvas, [points], value, shift=FRACTION_BITS)


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    """Return a circle as a polygon `[32, 2]`."""
    angles = np.arange(32) * (np.pi / 16)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


def _outlines(points: np.ndarray, width: float) -> list:
    """Return a wire as polygons: a quadrilateral per segment, and a disc at each corner."""
    out = []
    half = width / 2
    for k in range(len(points) - 1):
        start, end = points[k], points[k + 1]
        length = np.hypot(*(end - start))
        if length == 0:
            continue
        along = (end - start) / length
        across = np.array([-along[1], along[0]]) * half
        if k == 0:
            start = start - along * half
        if k == len(points) - 2:
            end = end + along * half
        out.append(np.array([start - across, end - across, end + across, start + across]))
    out.extend(_disc(x, y, half) for x, y in points[1:-1])
    return out


def rasterize_metal(layer: Layer, size: int, *, bulge: float = 1.75) -> np.ndarray:
    """Draw the metal of a layer.

    Args:
      layer: its origin is the corner of the canvas.
      size: side of the square in pixels of the micrograph.
      bulge: radius of the metal around a via, relative to the via's radius.

    Returns:
      The canvas `[SUPERSAMPLING * size, SUPERSAMPLING * size]`, uint8 of 0 and 1.
    """
    canvas = np.zeros((SUPERSAMPLING * size,) * 2, np.uint8)
    for points, width in layer.wires:
        fill_polygons(canvas, _outlines(points, width), 1)
    fill_polygons(canvas, layer.polygons, 1)
    fill_polygons(canvas, layer.holes, 0)
    fill_polygons(canvas, (_disc(x, y, bulge * radius) for x, y, radius in layer.vias), 1)
    return canvas


def rasterize_vias(layer: Layer, size: int) -> np.ndarray:
    """Draw the vias of a layer, as `rasterize_metal` does."""
    canvas = np.zeros((SUPERSAMPLING * size,) * 2, np.uint8)
    fill_polygons(canvas, (_disc(*via) for via in layer.vias), 1)
    return canvas


def signed_distance(canvas: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel to the drawn edge, positive inside.

    Args:
      canvas: of `rasterize_metal` or `rasterize_vias`.

    Returns:
      Distances `[size, size]` float32 in pixels of the micrograph, at most 64 either way.
    """
    inside = cv2.distanceTransform(canvas, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - canvas, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # The edge lies half a pixel from the centres of the pixels on both sides.
    distance = np.where(canvas > 0, inside - 0.5, 0.5 - outside) / SUPERSAMPLING
    # Bounded, because an empty or full canvas has no edge.
    distance = np.clip(distance, -64, 64).astype(np.float32)
    size = canvas.shape[0] // SUPERSAMPLING
    return cv2.resize(distance, (size, size), interpolation=cv2.INTER_AREA)
