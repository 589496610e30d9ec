"""`eal-icnet labels`: what was drawn over a photograph becomes labels for training."""

import sys

import numpy as np
import pytest
import tifffile

from eal_icnet_jax.imaging import mask_files, png
from eal_icnet_jax.vector.layout_files import write_layout
from eal_icnet_jax.vector.layout_options import ShapeOptions
from tests import cli
from tests.inference.conftest import read
from tests.vector.sample_masks import blobs

EXACT = ShapeOptions(tolerance=0, via_shape="outline")


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "photo.png"
    png.write(path, np.zeros((90, 110, 3), np.uint8), (0.05, 0.05))
    return path


def labels(*arguments):
    result = cli.call("labels", *arguments)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize("ending", ["gds", "oas", "svg"])
def test_a_layout_becomes_the_labels_of_its_photograph(tmp_path, photograph, ending):
    metal, via = blobs(1), np.zeros((90, 110), bool)
    via[40:43, 50:53] = via[39:44, 51] = via[41, 49:54] = True  # a disc of HY5SYN's form
    source = tmp_path / f"fixed.{ending}"
    write_layout(source, {"metal": metal, "via": via}, 0.05, EXACT)
    result = labels(source, f"--like={photograph}", "-o", tmp_path / "label")
    assert "warning" not in result.stderr
    np.testing.assert_array_equal(read(tmp_path / "label" / "photo.png") > 0, metal)
    np.testing.assert_array_equal(read(tmp_path / "via_label" / "photo.png") > 0, via)
    assert f"metal: {100 * metal.mean():.2f}% of the pixels" in result.stdout
    assert ("pixel size 0.05 um, from" in result.stdout) == (ending != "svg")


def test_a_painted_image_marks_metal_and_vias_by_their_layers(tmp_path, photograph):
    painted = np.zeros((90, 110), np.uint8)
    painted[10:20], painted[12:14, 5:9] = 7, 2
    png.write(tmp_path / "painted.png", painted)
    like = f"--like={photograph}"
    labels(tmp_path / "painted.png", like, "--layers=metal=7,via=2", "-o", tmp_path / "label")
    np.testing.assert_array_equal(read(tmp_path / "label" / "photo.png") > 0, painted == 7)
    np.testing.assert_array_equal(read(tmp_path / "via_label" / "photo.png") > 0, painted == 2)
    mask = 255 * blobs(2).astype(np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    labels(tmp_path / "mask.tif", like, "-o", tmp_path / "label")
    np.testing.assert_array_equal(read(tmp_path / "label" / "photo.png"), mask)


@pytest.mark.parametrize(
    ("body", "area"),
    [
        ('<path style="fill:none;stroke:red;stroke-width:8" d="M20 20 L80 20"/>', 480),
        ('<path d="M10,10 L60,10 L60,30 L10,30 Z"/>'
         '<g style="display:none"><path d="M10,40 L60,40 L60,60 L10,60 Z"/></g>', 1000),
        ('<defs><path d="M10,40 L60,40 L60,60 L10,60 Z"/></defs>'
         '<path d="M10,10 L60,10 L60,30 L10,30 Z"/>', 1000),
    ],
)  # fmt: skip
def test_a_drawing_in_whole_pixels_is_no_file_of_hy5syn(tmp_path, photograph, body, area):
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="110" height="90">'
    (tmp_path / "a.svg").write_text(f"{head}{body}</svg>")
    labels(tmp_path / "a.svg", f"--like={photograph}", "-o", tmp_path / "label")
    assert np.count_nonzero(read(tmp_path / "label" / "photo.png")) == area


def test_labels_of_an_earlier_run_that_stay_are_named(tmp_path, photograph, monkeypatch):
    metal, via = np.zeros((2, 90, 110), bool)
    metal[10:20], via[12:16, 30:34] = True, True
    like = f"--like={photograph}"
    monkeypatch.chdir(tmp_path)
    write_layout(tmp_path / "both.gds", {"metal": metal, "via": via}, 0.05, EXACT)
    labels(tmp_path / "both.gds", like, "-o", "label")
    write_layout(tmp_path / "metal.gds", {"metal": metal}, 0.05, EXACT)
    result = labels(tmp_path / "metal.gds", like, "-o", "label")
    assert "via_label/photo.png is of an earlier run and stays" in result.stderr
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    labels(tmp_path / "both.gds", like, "-o", ".")
    assert (tmp_path / "here/photo.png").exists() and (tmp_path / "via_here/photo.png").exists()


def test_texts_of_a_layout_are_no_shapes(tmp_path, photograph):
    kdb = pytest.importorskip("klayout.db")
    layout = kdb.Layout()
    cell = layout.create_cell("TOP")
    cell.shapes(layout.layer(1, 0)).insert(kdb.DBox(0.5, 0.5, 5, 4))
    for x in (1, 3, 900):
        cell.shapes(layout.layer(1, 0)).insert(kdb.DText("VDD", x, 2))
        cell.shapes(layout.layer(2, 0)).insert(kdb.DText("VDD", x, 2))
    layout.write(str(tmp_path / "a.gds"))
    result = labels(tmp_path / "a.gds", f"--like={photograph}", "-o", tmp_path / "label")
    assert "warning" not in result.stderr and not (tmp_path / "via_label").exists()


def test_colours_that_all_become_metal_are_reported(tmp_path, photograph):
    painted = np.zeros((90, 110, 3), np.uint8)
    painted[10:20, :, 0], painted[12:14, 5:9] = 255, (0, 255, 0)
    png.write(tmp_path / "painted.png", painted)
    result = labels(tmp_path / "painted.png", f"--like={photograph}", "-o", tmp_path / "label")
    assert "has 2 colours besides black: all of them are foreground" in result.stderr


def test_the_labels_of_a_large_photograph_are_a_tiled_tiff(tmp_path, photograph, monkeypatch):
    monkeypatch.setattr(mask_files, "MAX_PNG_PIXELS", 64 * 64)
    metal = blobs(3)
    write_layout(tmp_path / "fixed.gds", {"metal": metal}, 0.05, EXACT)
    labels(tmp_path / "fixed.gds", f"--like={photograph}", "-o", tmp_path / "label")
    path = tmp_path / "label" / "photo.ome.tif"
    np.testing.assert_array_equal(read(path) > 0, metal)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].is_tiled and 'PhysicalSizeX="0.05' in file.ome_metadata
    assert [p.name for p in (tmp_path / "label").iterdir()] == [path.name]


def test_an_assumed_pixel_size_and_a_part_that_is_cut_are_reported(tmp_path):
    png.write(tmp_path / "photo.png", np.zeros((40, 40), np.uint8))
    write_layout(tmp_path / "fixed.gds", {"metal": blobs(1)}, 1.0, EXACT)
    result = labels(
        tmp_path / "fixed.gds", f"--like={tmp_path / 'photo.png'}", "-o", tmp_path / "label"
    )
    assert "unknown, 1 um assumed: name --pixel-size" in result.stderr
    assert "reaches beyond" in result.stderr and "it is cut there" in result.stderr
    expected = blobs(1)[-40:, :40]  # the lower-left corners are in one place
    np.testing.assert_array_equal(read(tmp_path / "label" / "photo.png") > 0, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a.gds --layers=metal=5/0", "a.gds has nothing on layer 5/0: it has layers 1/0"),
        ("a.gds --layers=wire=1", "--layers is wire=1: name layers as metal=1/0,via=2/0"),
        ("a.gds --layers=metal", "--layers is metal: name layers as"),
        ("a.gds --pixel-size=0", "--pixel-size is 0.0: it must be above 0 micrometres"),
        ("far.gds", "lies outside photo.png with pixels of 0.05 um"),
        ("small.png", "small.png is 8x8, and photo.png is 90x110 (height x width)"),
        ("small.svg", "small.svg is 8x8, and photo.png is 90x110 (height x width)"),
        ("no.gds", "no.gds cannot be read: No such file"),
        ("a.gds --like=no.png", "no.png cannot be read: No such file"),
    ],
)
def test_bad_input_is_reported(tmp_path, photograph, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    square = {"metal": np.ones((8, 8), bool)}
    write_layout("a.gds", square, 0.05)
    write_layout("small.svg", square)
    png.write(tmp_path / "small.png", np.ones((8, 8), np.uint8))
    far = np.zeros((300, 300), bool)
    far[:20] = True
    write_layout("far.gds", {"metal": far}, 0.05)
    before = {path.name for path in tmp_path.iterdir()}
    assert message in cli.error_of("labels", "--like=photo.png", "-o", "label", *arguments.split())
    assert {path.name for path in tmp_path.iterdir()} == before


def test_only_labels_of_this_program_are_replaced(tmp_path, photograph):
    write_layout(tmp_path / "a.gds", {"metal": blobs(1)}, 0.05)
    arguments = tmp_path / "a.gds", f"--like={photograph}", "-o", tmp_path / "label"
    for _ in range(2):
        labels(*arguments)
    path = tmp_path / "label" / "photo.png"
    path.write_bytes(b"of another program")
    assert "was not written by this program" in cli.error_of("labels", *map(str, arguments))
    assert path.read_bytes() == b"of another program"
    labels(*arguments, "--force")


def test_a_layout_without_klayout_names_the_extra_and_a_painted_image_needs_none(
    tmp_path, photograph, monkeypatch
):
    monkeypatch.setitem(sys.modules, "klayout", None)
    monkeypatch.setitem(sys.modules, "klayout.db", None)
    monkeypatch.delitem(sys.modules, "eal_icnet_jax.vector.layout_reader", raising=False)
    monkeypatch.delattr("eal_icnet_jax.vector.layout_reader", raising=False)
    write_layout(tmp_path / "a.gds", {"metal": blobs(1)}, 0.05)
    options = f"--like={photograph}", "-o", str(tmp_path / "label")
    message = cli.error_of("labels", str(tmp_path / "a.gds"), *options)
    assert "pip install 'eal-icnet-jax[labels]'" in message
    png.write(tmp_path / "painted.png", blobs(1).astype(np.uint8))
    labels(tmp_path / "painted.png", *options)
