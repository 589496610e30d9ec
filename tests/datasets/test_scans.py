"""Tiles of a drawn die, as a microscope takes them."""

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die, sample_die, scans
from eal_icnet_jax.imaging import mosaic_files, stitching, tiled_mosaic
from eal_icnet_jax.system.errors import UserError
from tests import cli

SIZE, TILE = 500, 256


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A drawn stack of two metals."""
    folder = tmp_path_factory.mktemp("drawn") / "stack"
    sample_die.write_die(folder, die.Die(SIZE, SIZE, seed=2, optical=False, metals=2), 0.1)
    return folder


def test_the_tiles_of_the_lowest_layer_show_its_photograph(stack, tmp_path):
    done = cli.call("draw", "scans", stack, tmp_path / "scans", f"--tile={TILE}", "--seed=3")
    assert done.returncode == 0 and "8 tiles" in done.stdout, done.stderr
    mosaic = mosaic_files.open_mosaic(stack / "layer1" / "image.ome.tif")
    image = mosaic[0:SIZE, 0:SIZE].astype(float)
    files, places = scans.cut(image.astype(np.uint8), scans.Scan(TILE), tmp_path, seed=3)
    for path, (x, y) in zip(files.values(), places.astype(int), strict=True):
        written = mosaic_files.open_mosaic(tmp_path / "scans" / "layer1" / path.name)
        tile = written[0:TILE, 0:TILE].astype(float)
        assert written.pixel_size == pytest.approx((0.1, 0.1), rel=1e-3)
        part = image[y : y + TILE, x : x + TILE]
        gain = tile.mean() / part.mean()
        assert 0.94 < gain < 1.06
        assert np.abs(tile - gain * part).mean() < 4
    grid = tiled_mosaic.find_tiles(tmp_path / "scans" / "layer1", scans.TILES)
    found = stitching.stitch(grid, scans.Scan.overlap, scans.Scan.overlap / 2)
    off = np.array([tile[1:] for tile in found.tiles]) - places
    assert np.abs(off - np.median(off, 0)).max() < 1


def test_upper_layers_are_distorted(stack):
    distortion = scans.Distortion((SIZE, SIZE), seed=1)
    points = np.stack(np.meshgrid(*[np.linspace(0, SIZE, 9)] * 2), -1).reshape(-1, 2)
    moved = np.hypot(*(distortion(points) - points).T)
    assert 5 < moved.max() < 45
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    shown = [distortion.applied(axis)[100:300, 100:300] for axis in (columns, rows)]
    grid = np.stack([columns, rows], -1)[100:300, 100:300].reshape(-1, 2)
    wanted = distortion(grid).reshape(200, 200, 2)
    assert np.abs(np.stack(shown, -1) - wanted).max() < 0.05


def test_what_is_no_die_or_too_small_is_refused(stack, tmp_path):
    with pytest.raises(UserError, match="fewer than a tile"):
        scans.write_scans(stack, tmp_path / "scans", scans.Scan(SIZE + 1), 0)
    with pytest.raises(UserError):
        scans.write_scans(tmp_path, tmp_path / "scans", scans.Scan(TILE), 0)
    assert not (tmp_path / "scans").exists()
    assert "name 64 to 16384" in cli.error_of("draw", "scans", stack, tmp_path / "a", "--tile=5")
