"""How well tiles of a drawn die are placed, and what their joint costs the prediction.

    python benchmarks/stitching.py --die=DIE --work=WORK [--checkpoint=CKPT]

DIE is a folder that `eal-icnet draw die` wrote. Its photograph is cut into tiles that overlap by
15%, lie up to 15 pixels beside their place in a grid, differ in brightness by up to 5%, and have
noise of 3 levels each, as photographs of their own. Prints the part of the tiles that `eal-icnet
stitch` places to within a pixel, with seconds and memory, and likewise for m2stitch if it is
installed. With a checkpoint, the whole photograph and the tiles are predicted, and the opens and
shorts of both are printed.
"""

import argparse
import contextlib
import io
import pathlib
import resource
import shutil
import time

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import scans
from eal_icnet_jax.evaluation import metrics
from eal_icnet_jax.imaging import mosaic_files, stitching
from eal_icnet_jax.imaging.placed_mosaic import grid_positions
from eal_icnet_jax.imaging.tile_positions import positions_table
from eal_icnet_jax.inference.prediction import PredictionRun
from eal_icnet_jax.inference.prediction_options import PredictionOptions
from eal_icnet_jax.models import checkpoints


def errors(found: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return by how many pixels each tile is off, apart from a shift of all."""
    off = found - places
    return np.abs(off - np.median(off, 0)).max(1)


def by_m2stitch(grid: dict) -> np.ndarray:
    """Return the places that m2stitch finds, `[N, 2]`."""
    import m2stitch

    keys = sorted(grid)
    tiles = [mosaic_files.open_mosaic(grid[key]) for key in keys]
    images = [tile[0 : tile.shape[0], 0 : tile.shape[1]].astype(np.float32) for tile in tiles]
    grey = np.stack([image.mean(-1) if image.ndim == 3 else image for image in images])
    grey -= grey.mean((1, 2), keepdims=True)  # its correlation does not subtract the mean
    nominal = np.array([tile[1:] for tile in grid_positions(grid, scans.Scan.overlap)])
    with contextlib.redirect_stderr(io.StringIO()):
        found, _ = m2stitch.stitch_images(
            grey, rows=[key[0] for key in keys], cols=[key[1] for key in keys],
            row_col_transpose=False, position_initial_guess=nominal[:, ::-1],
            overlap_diff_threshold=10, pou=6, ncc_threshold=0.3,
        )  # fmt: skip
    return found[["x_pos", "y_pos"]].to_numpy(float)


def predicted(path: pathlib.Path, output: pathlib.Path, checkpoint: str) -> np.ndarray:
    """Return the mask of metal of an image."""
    model = checkpoints.load_model(checkpoint)
    options = PredictionOptions(input=path, output=output, scale=1.0, format="zarr")
    (result,) = PredictionRun(model, options).results()
    (mask, *_) = sorted(p for p in output.glob("*.zarr") if "via" not in p.name)
    height, width = result.size
    return mosaic_files.open_mosaic(mask)[0:height, 0:width] > 0


def differences(die: pathlib.Path, mask: np.ndarray, left: int, top: int) -> str:
    """Return opens and shorts of a mask, whose corner lies at a place of the die."""
    height, width = mask.shape
    metal = mosaic_files.open_mosaic(die / "metal.ome.tif")[top : top + height, left : left + width]
    height, width = metal.shape
    found = metrics.electrically_significant_differences(metal > 0, mask[:height, :width])
    return f"{found.opens} opens, {found.shorts} shorts in {found.nets} nets"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--die", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="for tiles and masks")
    parser.add_argument("--side", type=int, default=1024, help="of a tile in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", help="to predict with")
    arguments = parser.parse_args()
    image = mosaic_files.open_mosaic(arguments.die / "image.ome.tif")
    tiles = arguments.work / "tiles"
    shutil.rmtree(tiles, ignore_errors=True)
    tiles.mkdir(parents=True)
    scan = scans.Scan(arguments.side)
    grid, places = scans.cut(
        image[0 : image.shape[0], 0 : image.shape[1]], scan, tiles, arguments.seed
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = stitching.stitch(grid, scan.overlap, scan.overlap / 2)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    off = errors(np.array([tile[1:] for tile in found.tiles]), places)
    print(f"{len(grid)} tiles: {100 * np.mean(off <= 1):.1f}% within a pixel, largest "
          f"{off.max():.2f}, {seconds:.1f} s, {memory / 1024:.0f} MB more")  # fmt: skip
    try:
        start = time.perf_counter()
        off = errors(by_m2stitch(grid), places)
        seconds = time.perf_counter() - start
        print(f"m2stitch: {100 * np.mean(off <= 1):.1f}% within a pixel, largest {off.max():.2f}, "
              f"{seconds:.1f} s")  # fmt: skip
    except ImportError:
        print("m2stitch is not installed")
    if not arguments.checkpoint:
        return
    positions = tiles / "positions.csv"
    positions.write_text(positions_table(found.tiles, tiles))
    whole = predicted(arguments.die / "image.ome.tif", arguments.work / "whole",
                      arguments.checkpoint)  # fmt: skip
    print("whole:", differences(arguments.die, whole, 0, 0))
    joined = predicted(positions, arguments.work / "joined", arguments.checkpoint)
    left, top = (int(value) for value in places.min(0))
    print("joined:", differences(arguments.die, joined, left, top))


if __name__ == "__main__":
    main()
