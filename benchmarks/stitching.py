"""How well tiles of a drawn die are placed, and what their joint costs the prediction.

    python benchmarks/stitching.py --die DIE [DIE ...] --work=WORK [--checkpoint=CKPT --seeds=N]

DIE is a folder that `eal-icnet draw die` wrote. Its photograph is cut into tiles that overlap by
15%, lie up to 15 pixels beside their place in a grid, differ in brightness by up to 5%, and have
noise of 3 levels each, as photographs of their own. Prints the part of the tiles that `eal-icnet
stitch` places to within a pixel, with seconds and memory, and likewise for m2stitch if it is
installed. With a checkpoint, what the tiles span is predicted uncut, with such noise, and from the
tiles, and the opens and shorts of both over all dies and seeds are printed, where the tiles show
the die. A seed gives the places of the tiles, their gains and the noise of both.
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
from eal_icnet_jax.imaging import mosaic_files, png, stitching
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


def covered_part(places: np.ndarray, side: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return the part of the die that tiles span, and which of its pixels a tile shows."""
    left, top = (int(value) for value in places.min(0))
    right, bottom = (int(value) + side for value in places.max(0))
    shown = np.zeros((bottom - top, right - left), bool)
    for x, y in places.astype(int):
        shown[y - top : y - top + side, x - left : x - left + side] = True
    return (slice(top, bottom), slice(left, right)), shown


def faults(metal: np.ndarray, mask: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return opens, shorts and nets of a mask where tiles show the die."""
    found = metrics.electrically_significant_differences(metal, mask, shown)
    return np.array([found.opens, found.shorts, found.nets])


def compare(
    die: pathlib.Path,
    positions: pathlib.Path,
    places: np.ndarray,
    seed: int,
    arguments: argparse.Namespace,
) -> dict[str, np.ndarray]:
    """Return the `faults` of the mask of what the tiles span, uncut and joined."""
    work, noise = positions.parent.parent, scans.Scan.noise
    part, shown = covered_part(places, arguments.side)
    image, metal = whole_image(die, "image")[part], whole_image(die, "metal")[part] > 0
    noisy = image + np.random.default_rng(seed).normal(0, noise, image.shape)
    png.write(work / "whole.png", np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    masks = {
        name: predicted(path, work / name, arguments.checkpoint)
        for name, path in (("whole", work / "whole.png"), ("joined", positions))
    }
    height, width = (min(n) for n in zip(shown.shape, masks["joined"].shape, strict=True))
    return {
        name: faults(*(array[:height, :width] for array in (metal, mask, shown)))
        for name, mask in masks.items()
    }


def whole_image(die: pathlib.Path, name: str) -> np.ndarray:
    """Return the photograph of a die, or one of its masks."""
    mosaic = mosaic_files.open_mosaic(die / f"{name}.ome.tif")
    return mosaic[0 : mosaic.shape[0], 0 : mosaic.shape[1]]


def measure(
    die: pathlib.Path, work: pathlib.Path, seed: int, arguments: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Print how the tiles of a die are placed, and return what `compare` does."""
    tiles = work / "tiles"
    for made in (tiles, work / "whole", work / "joined"):
        shutil.rmtree(made, ignore_errors=True)
    tiles.mkdir(parents=True)
    scan = scans.Scan(arguments.side)
    grid, places = scans.cut(whole_image(die, "image"), scan, tiles, seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = stitching.stitch(grid, scan.overlap, scan.overlap / 2)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    off = errors(np.array([tile[1:] for tile in found.tiles]), places)
    print(f"{die.name}: {len(grid)} tiles, {100 * np.mean(off <= 1):.1f}% within a pixel, largest "
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
        return {}
    positions = tiles / "positions.csv"
    positions.write_text(positions_table(found.tiles, tiles))
    return compare(die, positions, places, seed, arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--die", type=pathlib.Path, required=True, nargs="+")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="for tiles and masks")
    parser.add_argument("--side", type=int, default=1024, help="of a tile in pixels")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds")
    parser.add_argument("--checkpoint", help="to predict with")
    arguments = parser.parse_args()
    found = [
        measure(die, arguments.work / f"stitched{number}", seed, arguments)
        for seed in range(arguments.seeds)
        for number, die in enumerate(arguments.die)
    ]
    if not arguments.checkpoint:
        return
    for name in found[0]:
        opens, shorts, nets = np.sum([counts[name] for counts in found], 0)
        print(f"{name}: {opens} opens, {shorts} shorts in {nets} nets")
    more = np.array([sum(counts["joined"][:2]) - sum(counts["whole"][:2]) for counts in found])
    error = more.std(ddof=1) * np.sqrt(len(more)) if len(more) > 1 else np.nan
    print(f"joined has {more.sum():+} of both, with a standard error of {error:.0f}")


if __name__ == "__main__":
    main()
