import numpy as np
import pytest

from eal_icnet_jax.imaging import png
from eal_icnet_jax.vector import outlines
from tests import cli
from tests.vector.sample_masks import blobs, read_layer


@pytest.mark.parametrize("ending", [".gds", ".oas", ".svg"])
def test_only_a_layout_of_this_program_is_replaced(tmp_path, ending):
    metal, path = tmp_path / "metal.png", tmp_path / f"out{ending}"
    png.write(metal, 255 * blobs(3).astype(np.uint8))
    arguments = ("layout", metal, "-o", path, "--pixel-size=0.5")
    for _ in range(2):  # the second time it replaces its own file
        assert cli.call(*arguments).returncode == 0
    own = path.read_bytes()
    path.write_bytes(b"of another program")
    result = cli.call(*arguments)
    assert result.returncode == 1
    assert f"{path} exists and was not written by this program: name another" in result.stderr
    assert path.read_bytes() == b"of another program"
    assert cli.call(*arguments, "--force").returncode == 0
    assert path.read_bytes() == own


def test_masks_become_a_layout(tmp_path):
    for name, mask in (("metal", blobs(3)), ("via", blobs(2))):
        png.write(tmp_path / f"{name}.png", 255 * mask.astype(np.uint8))
    metal, via, path = (tmp_path / name for name in ("metal.png", "via.png", "out.gds"))
    options = ("--pixel-size=0.5", "--manhattan")
    result = cli.run("layout", metal, f"--via={via}", "-o", path, *options)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    wires, vias = (len(outlines.trace(blobs(seed))) for seed in (3, 2))
    size = "pixel size 0.5 um, from --pixel-size"
    assert result.stdout == f"{wires} metal, {vias} via shapes in {path}\n{size}\n"
    assert 0 < read_layer(path)[0].count() <= wires
    assert 0 < read_layer(path, (2, 0))[0].count() <= vias


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-o a.gds", "there is no mask: name a mask of the metal"),
        ("a.png -o a.dxf", "a.dxf names no layout: let it end in .gds, .oas"),
        ("a.png -o no/a.gds", "no is not a folder"),
        ("a.png -o a.gds --via=b.png", "the masks are 8x8 and 8x9"),
        ("a.png -o a.gds --pixel-size=0", "--pixel-size is 0.0: it must be above 0 micrometres"),
        ("a.png -o a.gds --tolerance=nan", "--tolerance is nan: it must be 0 or more pixels"),
        ("c.png -o a.gds", "c.png cannot be read: No such file"),
    ],
)
def test_bad_input_is_reported(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    png.write(tmp_path / "a.png", np.ones((8, 8), np.uint8))
    png.write(tmp_path / "b.png", np.ones((8, 9), np.uint8))
    assert message in cli.error_of("layout", *arguments.split())
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}
