"""Places of overlapping tiles: those they were cut from, and doubt where nothing shows them."""

import numpy as np
import pytest
import tifffile

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.imaging.stitching import refine, stitch
from eal_icnet_jax.imaging.tile_positions import PlacedTile, read_positions, read_stage_positions
from eal_icnet_jax.imaging.tiled_mosaic import read_tile
from eal_icnet_jax.system.errors import UserError
from tests import cli, killed_runs

SIDE, STEP, JITTER = 256, 218, 8


@pytest.fixture(scope="module")
def whole():
    """A drawn photograph, grey `[920, 920]`."""
    return die.draw_field(die.Die(920, 920, seed=6, optical=False), 0)["image"]


def cut(whole, folder, seed=0, missing=()):
    """Write jittered tiles with steps of brightness and noise; return grid and true places."""
    rng = np.random.default_rng(seed)
    grid, places = {}, {}
    for row in range(4):
        for column in range(4):
            jitter = rng.integers(-JITTER, JITTER + 1, 2)
            y, x = np.clip(np.multiply((row, column), STEP) + jitter, 0, 920 - SIDE)
            part = whole[y : y + SIDE, x : x + SIDE] * rng.uniform(0.95, 1.05)
            noisy = np.clip(part + rng.normal(0, 3, part.shape), 0, 255).astype(np.uint8)
            if (row, column) not in missing:
                grid[row, column] = folder / f"t_{row}_{column}.png"
                png.write(grid[row, column], noisy)
                places[row, column] = x, y
    return grid, places


def errors(found, places):
    """Return by how many pixels each tile is off, apart from a common shift."""
    true = np.array([places[key] for key in sorted(places)], float)
    off = np.array([tile[1:] for tile in found.tiles]) - true
    return np.abs(off - np.median(off, 0)).max(1)


@pytest.mark.parametrize("seed", range(3))
def test_tiles_lie_where_they_were_cut(whole, tmp_path, seed):
    grid, places = cut(whole, tmp_path, seed)
    found = stitch(grid, 0.15, 0.07)
    assert found.pairs == found.fitting == 24 and not found.unplaced
    assert errors(found, places).max() < 0.5


def test_a_missing_tile_leaves_the_others_in_place(whole, tmp_path):
    grid, places = cut(whole, tmp_path, missing=((1, 1), (3, 0)))
    assert errors(stitch(grid, 0.15, 0.07), places).max() < 0.5


def test_lines_place_tiles_only_across_them(tmp_path):
    """Along parallel lines nothing shows where tiles lie, so that they stay where they should."""
    rows = np.zeros(920)
    for top in np.cumsum(np.random.default_rng(0).integers(14, 40, 40)):
        rows[top : top + 8] = 120
    lines = 60 + np.repeat(rows[:, None], 920, 1)
    grid, places = cut(lines, tmp_path)
    found = stitch(grid, 0.15, 0.07)
    true = np.array([places[key] for key in sorted(places)], float)
    off = np.array([tile[1:] for tile in found.tiles]) - true
    off -= np.median(off, 0)
    assert np.abs(off[:, 1]).max() < 0.5
    assert np.abs(off[:, 0]).max() < 3 * JITTER


def test_one_wrong_pair_moves_no_tile(whole, tmp_path):
    """A piece of another place covers what one tile shares with its neighbour."""
    grid, places = cut(whole, tmp_path)
    path = grid[1, 1]
    tile = mosaic_files.open_mosaic(path)[0:SIDE, 0:SIDE].copy()
    tile[20:230, 180:] = tile[20:230, 60:136]
    png.write(path, tile)
    assert errors(stitch(grid, 0.15, 0.07), places).max() < 1


def test_tiles_that_share_nothing_are_reported(tmp_path):
    rng = np.random.default_rng(0)
    grid = {}
    for k in range(4):
        grid[divmod(k, 2)] = tmp_path / f"{k}.png"
        png.write(tmp_path / f"{k}.png", rng.integers(0, 255, (128, 128)).astype(np.uint8))
    with pytest.raises(UserError, match="no two neighbours fit: check whether they share 30%"):
        stitch(grid, 0.3, 0.1)
    png.write(grid[1, 1], np.zeros((120, 128), np.uint8))
    with pytest.raises(UserError, match=r"has 120x128 pixels .* and the first 128x128"):
        stitch(grid, 0.3, 0.1)
    with pytest.raises(
        UserError, match=r"share 13 pixels by --tile-overlap=10 \(percent\), too few to search"
    ):
        stitch(grid, 0.1, 0.05)


def test_tiles_that_no_pair_joins_to_the_others_are_named(whole, tmp_path):
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    grid, _ = cut(whole, tiles, missing=tuple((1, column) for column in range(4)))
    found = stitch(grid, 0.15, 0.07)
    assert found.pairs == found.fitting == 13
    assert {path.name for path in found.unplaced} == {f"t_0_{column}.png" for column in range(4)}
    (tiles / "overview.png").write_bytes((tiles / "t_0_0.png").read_bytes())
    result = cli.call("stitch", tiles, "--tiles=t_{row}_{column}.png", "--tile-overlap=15", "-o",
                      tiles / "positions.csv")  # fmt: skip
    assert "4 tiles, such as t_0_0.png, are joined to most others by no pair" in result.stderr
    assert "1 files are not named as t_{row}_{column}.png and left out, such as" in result.stderr


def test_rows_taken_for_columns_are_suspected(whole, tmp_path):
    cut(whole, tmp_path)
    result = cli.call("stitch", tmp_path, "--tiles=t_{column}_{row}.png", "--tile-overlap=15",
                      "-o", tmp_path / "positions.csv")  # fmt: skip
    assert "which number of the names is the row" in result.stderr


def test_positions_that_heap_the_tiles_are_no_pixels(whole, tmp_path):
    _, places = cut(whole, tmp_path)
    lines = [
        f"t_{row}_{column}.png,{0.1 * x},{0.1 * y}" for (row, column), (x, y) in places.items()
    ]
    (tmp_path / "positions.csv").write_text("\n".join(["Name, X, Y", *lines]))
    with pytest.raises(UserError, match=r"most tiles share 9.% of their sides with another one"):
        mosaic_files.open_mosaic(tmp_path / "positions.csv")
    error = cli.error_of("stitch", tmp_path / "positions.csv", "-o", tmp_path / "die.ome.tif")
    assert "positions must be in pixels" in error


def test_the_command_writes_the_image_or_its_positions(whole, tmp_path):
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    _, places = cut(whole, tiles, missing=((3, 3),))
    arguments = "stitch", tiles, "--tiles=t_{row}_{column}.png", "--tile-overlap=15"
    result = cli.call(*arguments, "-o", tiles / "positions.csv")
    assert result.returncode == 0, result.stderr
    assert "15 tiles placed by 22 of 22 pairs of neighbours, which agree to 0.0" in result.stdout
    assert "lacks 1 tiles of its grid, such as row 3 column 3" in result.stderr
    placed = mosaic_files.open_mosaic(tiles / "positions.csv")
    out = tmp_path / "die.ome.tif"
    assert cli.call(*arguments, "-o", out).returncode == 0
    first = out.read_bytes()
    image = mosaic_files.open_mosaic(out)
    assert image.shape == placed.shape
    height, width = image.shape
    np.testing.assert_array_equal(image[0:height, 0:width], placed[0:height, 0:width])
    x, y = (min(place[k] for place in places.values()) for k in (0, 1))
    part = whole[y : y + 600, x : x + 600].astype(float)
    assert np.abs(image[0:600, 0:600] - part * image[0:600, 0:600].mean() / part.mean()).mean() < 6
    assert cli.call(*arguments, "-o", out).returncode == 0
    assert out.read_bytes() == first
    assert cli.call(*arguments, "-o", tiles / "positions.csv").returncode == 0  # our own table
    assert sorted(path.name for path in tmp_path.iterdir()) == ["die.ome.tif", "tiles"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tile-overlap=0", "-o", "a.csv"), "--tile-overlap is 0: name 1 to 50 percent"),
        (("--tile-overlap=10", "--search=12", "-o", "a.csv"), "--search is 12: name less than"),
        (("--tile-overlap=10", "-o", "a.png"), "a.png is no result: let it end in .ome.tif or"),
        (("--tile-overlap=10", "-o", "/tmp/none/a.csv"), "/tmp/none is not a folder: make it"),
    ],
)
def test_wrong_options_are_reported(tmp_path, options, message):
    assert message in cli.error_of("stitch", tmp_path, "--tiles=t_{row}_{column}.png", *options)


def test_foreign_files_are_not_replaced(tmp_path):
    (tmp_path / "a.csv").write_text("name,x,y\na.png,0,0\n")  # made by hand
    arguments = "stitch", tmp_path, "--tiles=t_{row}_{column}.png", "--tile-overlap=15", "-o"
    error = cli.error_of(*arguments, tmp_path / "a.csv")
    assert "a.csv exists and was not written by this program" in error
    (tmp_path / "below").mkdir()
    error = cli.error_of(*arguments, tmp_path / "below" / "a.csv")
    assert "must lie in" in error and "or above it" in error


def write_stage_tiles(whole, folder, unit="µm", flip=1):
    """Write tiles as OME-TIFF files with roughly the position of the stage; return true places."""
    grid, places = cut(whole, folder)
    rng = np.random.default_rng(5)
    for key, path in grid.items():
        x, y = (0.2 * (value + rng.uniform(-5, 5)) for value in places[key])
        tile = mosaic_files.open_mosaic(path)[0:SIDE, 0:SIDE]
        plane = {"PositionX": x, "PositionY": flip * y} | {f"Position{a}Unit": unit for a in "XY"}
        sizes = {f"PhysicalSize{a}": 0.2 for a in "XY"} | {
            f"PhysicalSize{a}Unit": "µm" for a in "XY"
        }
        metadata = {"axes": "YX", "Plane": plane, **sizes}
        tifffile.imwrite(path.with_suffix(".ome.tif"), tile, ome=True, metadata=metadata)
        path.unlink()
    return places


def test_each_file_of_a_set_lies_where_its_own_image_was(tmp_path):
    """Every file holds the metadata of all, as Bio-Formats writes them."""
    names = [f"{k}.ome.tif" for k in range(3)]
    pixels = (
        '<Image ID="Image:{0}"><Pixels ID="Pixels:{0}" DimensionOrder="XYCZT" Type="uint8" '
        'SizeX="64" SizeY="64" SizeC="1" SizeZ="1" SizeT="1" PhysicalSizeX="{2}" '
        'PhysicalSizeY="{2}"><Channel ID="Channel:{0}:0" SamplesPerPixel="1"/><TiffData IFD="0" '
        'PlaneCount="1"><UUID FileName="{0}.ome.tif">urn:uuid:{0}</UUID></TiffData><Plane TheC="0" '
        'TheT="0" TheZ="0" PositionX="{1}" PositionXUnit="µm" PositionY="7" PositionYUnit="µm"/>'
        "</Pixels></Image>"
    )

    def write(sizes):
        images = (pixels.format(k, 30 * k, size) for k, size in enumerate(sizes))
        space = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
        text = f"<?xml version='1.0' encoding='UTF-8'?><OME {space}>{''.join(images)}</OME>"
        for name in names:
            tifffile.imwrite(tmp_path / name, np.zeros((64, 64), np.uint8), metadata=None,
                             description=text.encode())  # fmt: skip

    write((0.5, 0.5, 0.5))
    assert [tile[1:] for tile in read_stage_positions(tmp_path)] == [(0, 14), (60, 14), (120, 14)]
    assert read_tile(tmp_path / names[2]).shape == (64, 64)
    write((0.5, 0.5, 1))
    with pytest.raises(
        UserError, match=r"2.ome.tif states pixels of 1 micrometres, and .*0.ome.tif"
    ):
        read_stage_positions(tmp_path)
    write((0.5, 0.5, 0.5))
    (tmp_path / names[0]).rename(tmp_path / "a.ome.tif")
    with pytest.raises(UserError, match="does not state where the stage was"):
        read_stage_positions(tmp_path)


@pytest.mark.parametrize("flip", [1, -1])
def test_tiles_lie_where_the_stage_was_and_the_images_say(whole, tmp_path, flip):
    places = write_stage_tiles(whole, tmp_path, flip=flip)
    options = ("--stage", "--search=5", *(() if flip > 0 else ("--flip-y",)))
    rough, fine = tmp_path / "rough.csv", tmp_path / "fine.csv"
    done = cli.call("stitch", tmp_path, *options, "-o", rough)
    assert done.returncode == 0, done.stderr
    assert "16 tiles placed by" in done.stdout
    assert cli.call("stitch", rough, "-o", fine).returncode == 0
    for path in (rough, fine):
        found = {tile.path.name[:5]: tile[1:] for tile in read_positions(path)}
        names = {key: "t_{}_{}".format(*key) for key in places}
        off = np.array([np.subtract(found[names[key]], places[key]) for key in places])
        assert np.abs(off - np.median(off, 0)).max() < 0.5


def test_a_tile_taken_twice_moves_no_other(whole, tmp_path):
    grid, places = cut(whole, tmp_path)
    tiles = [PlacedTile(path, *map(float, places[key])) for key, path in grid.items()]
    again = tmp_path / "again.png"
    again.write_bytes(grid[1, 1].read_bytes())
    found = refine([*tiles, PlacedTile(again, *map(float, places[1, 1]))], 0.05)
    assert found.pairs > 15
    at = {tile.path: tile[1:] for tile in found.tiles}
    off = np.array([np.subtract(at[grid[key]], places[key]) for key in grid])
    assert np.abs(off - np.median(off, 0)).max() < 0.5


@pytest.mark.parametrize(
    ("factor", "message"), [(10, "no two tiles overlap"), (1.1, "name a smaller --search")]
)
def test_positions_at_which_nothing_can_be_compared_are_refused(whole, tmp_path, factor, message):
    grid, places = cut(whole, tmp_path)
    tiles = [PlacedTile(path, *(factor * v for v in places[key])) for key, path in grid.items()]
    with pytest.raises(UserError, match=message):
        refine(tiles, 0.075)


def test_positions_without_a_length_are_refused(whole, tmp_path):
    write_stage_tiles(whole, tmp_path, unit="reference frame")
    message = cli.error_of("stitch", tmp_path, "--stage", "-o", tmp_path / "a.csv")
    assert "does not state where the stage was" in message
    assert "name the folder of the tiles" in cli.error_of(
        "stitch", tmp_path.parent, "--stage", "-o", tmp_path.parent / "a.csv"
    )
    assert "name --tiles and --tile-overlap" in cli.error_of("stitch", tmp_path, "-o", "a.csv")
    message = cli.error_of("stitch", tmp_path, "--stage", "-o", tmp_path / "die.ome.tif")
    assert "whose OME-TIFF files are all taken for tiles" in message
    assert "name --stage too" in cli.error_of("stitch", tmp_path, "--flip-x", "-o", "a.csv")
    tile = next(tmp_path.glob("*.ome.tif"))
    assert "is a file: name the folder" in cli.error_of("stitch", tile, "--stage", "-o", "a.csv")


def test_a_killed_run_leaves_nothing_that_the_next_one_minds(whole, tmp_path):
    """The same command again ends with the bytes of a run that was not killed."""
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    cut(np.tile(whole, (3, 3))[: 4 * SIDE, : 4 * SIDE], tiles)
    arguments = "stitch", tiles, "--tiles=t_{row}_{column}.png", "--tile-overlap=15", "-o"
    killed_runs.assert_the_next_run_ends_alike(arguments, tmp_path / "die.ome.tif")
