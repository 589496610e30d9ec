"""Files of positions of tiles: those of Fiji, MIST and tables, and damaged ones."""

import pathlib

import pytest

from eal_icnet_jax.imaging.tile_positions import PlacedTile, positions_table, read_positions
from eal_icnet_jax.system.errors import UserError

FIJI = """# Define the number of dimensions we are working on
dim = 2

# Define the image coordinates
a.png; ; (0.0, 0.0)
b.png; ; (412.37, -3.5)
sub/c.png; ; (1.5e1, 400)
"""

MIST = """file: a.png; corr: 0.9962; position: (0, 0); grid: (0, 0);
file: b.png; corr: 0.9871; position: (412.37, -3.5); grid: (1, 0);
file: sub/c.png; corr: -1.0; position: (15, 400); grid: (0, 1);
"""

TABLE = "name,x,y,comment\na.png,0,0,\nb.png,412.37,-3.5,first\nsub/c.png,15,400,\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TileConfiguration.registered.txt", FIJI),
        ("img-global-positions-0.txt", MIST),
        ("positions.csv", TABLE),
        ("positions.CSV", "\ufeff" + TABLE.replace("\n", "\r\n")),
    ],
)
def test_positions_of_each_program_are_read(folder, name, text):
    (folder / name).write_bytes(text.encode())
    assert read_positions(folder / name) == [
        PlacedTile(folder / "a.png", 0, 0),
        PlacedTile(folder / "b.png", 412.37, -3.5),
        PlacedTile(folder / "sub/c.png", 15, 400),
    ]


def test_written_positions_are_read_again(folder):
    tiles = [PlacedTile(folder / "sub/c.png", -0.125, 7), PlacedTile(folder / "a.png", 12345.67, 0)]
    path = folder / "out.csv"
    path.write_text(positions_table(tiles, folder))
    assert read_positions(path) == [
        PlacedTile(folder / "sub/c.png", -0.12, 7),
        PlacedTile(folder / "a.png", 12345.67, 0),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "a.png; ; (0)\n", "line 1 is no position of a tile: write it as in Fiji's"),
        ("t.txt", "a.png; ; (0, 0, 5)\n", "line 1 is no position of a tile"),
        ("t.txt", "# nothing\n", "names no tile: write a line for each"),
        (
            "t.txt",
            "a.png; ; (0, 0)\nz.png; ; (9, 9)\n",
            r"names 1 tiles that are not there, such as z.png: add",
        ),
        ("t.txt", "a.png; ; (0, 0)\na.png; ; (9, 9)\n", "line 2: a.png is named above too"),
        ("t.txt", "../t.txt; ; (0, 0)\n", "line 1: name a tile in the folder of t.txt"),
        ("t.txt", "/etc/passwd; ; (0, 0)\n", "line 1: name a tile in the folder of t.txt"),
        ("t.txt", "a.png; ; (1e300, 0)\n", "line 1: positions must be in pixels"),
        ("t.csv", "name,x\na.png,0\n", "has no column y: its first line must be name,x,y"),
        ("t.csv", "name,x,y\na.png,0,far\n", "line 2: y must be a number of pixels"),
        ("t.csv", "name,x,y\na.png,nan,0\n", "line 2: x must be a number of pixels"),
        ("t.csv", "name,x,y\n,0,0\n", "line 2: name a tile in the folder of t.csv"),
        ("t.txt", "\udcff", "is no text in UTF-8"),
    ],
)
def test_files_that_say_nothing_are_reported(folder, name, text, message):
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message):
        read_positions(folder / name)


def test_a_file_that_is_not_there_is_reported():
    with pytest.raises(UserError, match="cannot be read"):
        read_positions(pathlib.Path("nothing.csv"))
