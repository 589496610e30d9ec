"""A drawn die as a microscope gives it: overlapping tiles, and layers that do not fit."""

import dataclasses
import pathlib

import cv2
import numpy as np

from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import atomic_folder

TILES = "tile_{row}_{column}.png"
"""Names of the tiles."""


@dataclasses.dataclass(frozen=True)
class Scan:
    """How tiles are taken.

    Attributes:
      side: of a tile in pixels.
      overlap: part of a side that neighbours share.
      jitter: largest distance of a tile from its place in the grid, in pixels.
      brightness: largest deviation of a tile's brightness, relative.
      noise: standard deviation of the noise of each tile, in grey levels.
    """

    side: int
    overlap: float = 0.15
    jitter: int = 15
    brightness: float = 0.05
    noise: float = 3.0


class Distortion:
    """How a layer is turned, scaled, shifted and bent against its drawing.

    By up to a degree and a percent, though on large dies by fewer: ten and eight pixels at the
    corners. It bends by two waves of up to a period over the die, each of 6 to 12 pixels.
    """

    def __init__(self, shape: tuple[int, int], seed: int):
        rng = np.random.default_rng(seed)
        self._shape = shape
        farthest = 0.7 * max(shape)
        self._turn = rng.uniform(-1, 1) * min(np.radians(1.0), 10 / farthest)
        self._scale = 1 + rng.uniform(-1, 1) * min(0.01, 8 / farthest)
        self._shift = rng.uniform(-6, 6, 2)
        self._height = rng.uniform(6, 12, (2, 2))
        self._wave = rng.uniform(0.3, 1, (2, 4)) * 2 * np.pi / max(shape)
        self._phase = rng.uniform(0, 2 * np.pi, (2, 4))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return where points (x, y) of the distorted image lie in the layer, `[N, 2]`."""
        middle = np.array(self._shape[::-1]) / 2
        x, y = (np.asarray(points, float) - middle).T
        cos, sin = self._scale * np.cos(self._turn), self._scale * np.sin(self._turn)
        out = np.stack([cos * x - sin * y, sin * x + cos * y], -1) + middle + self._shift
        for height, wave, phase in zip(self._height, self._wave, self._phase, strict=True):
            across = np.sin(wave[0] * y + phase[0]) * np.cos(wave[1] * x + phase[1])
            down = np.sin(wave[2] * x + phase[2]) * np.cos(wave[3] * y + phase[3])
            out += np.stack([height[0] * across, height[1] * down], -1)
        return out

    def applied(self, image: np.ndarray) -> np.ndarray:
        """Return an image `[H, W]` or `[H, W, 3]` as it is distorted."""
        out = np.zeros_like(image)
        height, width = self._shape
        for top in range(0, height, 1024):
            for left in range(0, width, 1024):
                rows, columns = np.mgrid[top : min(top + 1024, height),
                                         left : min(left + 1024, width)]  # fmt: skip
                at = self(np.stack([columns, rows], -1).reshape(-1, 2)).astype(np.float32)
                part = slice(top, top + len(rows)), slice(left, left + rows.shape[1])
                out[part] = cv2.remap(image, at.reshape(*rows.shape, 2), None, cv2.INTER_LINEAR)
        return out


def cut(
    image: np.ndarray,
    scan: Scan,
    folder: pathlib.Path,
    seed: int,
    pixel_size: tuple[float, float] | None = None,
) -> tuple[dict[tuple[int, int], pathlib.Path], np.ndarray]:
    """Write the tiles of an image, each a photograph of its own.

    They form a regular grid. What is left at the right and the lower edge is not in them.

    Args:
      image: `[H, W]` or `[H, W, 3]` uint8.
      scan: how tiles are taken.
      folder: for the tiles, named by `TILES`.
      seed: of their places, brightness and noise.
      pixel_size: height and width of a pixel in micrometres, or None if unknown.

    Returns:
      The file of each tile by row and column, and their corners (x, y) row by row, `[N, 2]`.
    """
    rng, step = np.random.default_rng(seed), round(scan.side * (1 - scan.overlap))
    counts = [1 + max(0, length - scan.side - scan.jitter) // step for length in image.shape[:2]]
    digits = len(str(max(counts) - 1))
    files, places = {}, []
    for row in range(counts[0]):
        for column in range(counts[1]):
            jitter = rng.integers(-scan.jitter, scan.jitter + 1, 2)
            y, x = (
                int(np.clip(step * k + off, 0, length - scan.side))
                for k, length, off in zip((row, column), image.shape[:2], jitter, strict=True)
            )
            tile = image[y : y + scan.side, x : x + scan.side]
            tile = tile * rng.uniform(1 - scan.brightness, 1 + scan.brightness)
            tile += rng.normal(0, scan.noise, tile.shape)
            name = TILES.format(row=f"{row:0{digits}}", column=f"{column:0{digits}}")
            files[row, column] = folder / name
            pixels = np.clip(np.rint(tile), 0, 255).astype(np.uint8)
            png.write(files[row, column], pixels, pixel_size)
            places.append((x, y))
    return files, np.array(places, float)


def write_scans(die: pathlib.Path, folder: pathlib.Path, scan: Scan, seed: int) -> int:
    """Write the photographs of a drawn die or stack as tiles; an error leaves no folder behind.

    Layers above the first are distorted. Tiles lie in the folder, or in layer1, layer2 and so on.

    Args:
      die: as `sample_die.write_die` wrote it.
      folder: must not exist.
      scan: how tiles are taken.
      seed: of everything that is drawn.

    Returns:
      The number of tiles.

    Raises:
      UserError: there is no photograph, it is smaller than a tile, or files cannot be written.
    """
    layers = sorted(path for path in die.glob("layer*") if path.is_dir()) or [die]
    count = 0
    with atomic_folder(folder) as partial:
        for number, layer in enumerate(layers):
            mosaic = mosaic_files.open_mosaic(layer / "image.ome.tif")
            if min(mosaic.shape) < scan.side:
                raise UserError(
                    f"{mosaic.path} has {mosaic.shape[0]}x{mosaic.shape[1]} pixels (height x "
                    f"width), fewer than a tile: name a smaller --tile than {scan.side}"
                )
            image = mosaic[0 : mosaic.shape[0], 0 : mosaic.shape[1]]
            if number:
                image = Distortion(mosaic.shape, seed + number).applied(image)
            target = partial if layer == die else partial / layer.name
            target.mkdir(exist_ok=True)
            files, _ = cut(image, scan, target, seed + number, mosaic.pixel_size)
            count += len(files)
    return count
