"""Layouts come back as the masks that they were made of, and damaged ones are refused."""

import gdstk
import hypothesis
import numpy as np
import pytest
from klayout import db

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import layout_reader
from eal_icnet_jax.vector.layout_files import write_layout
from eal_icnet_jax.vector.layout_options import ShapeOptions, layer_of
from eal_icnet_jax.vector.layout_reader import DrawnLayout, read_layout
from tests.vector.sample_masks import QUICK, blobs, count_regions_and_holes, masks

WHOLE = slice(None), slice(None)


def write(path, mask, pixel_size=0.1, **options):
    write_layout(path, {"metal": mask}, pixel_size, ShapeOptions(**options))
    return path


def read(path, shape, pixel_size=0.1, layer=(1, 0), **options):
    return DrawnLayout(path, read_layout(path), **options).mask(layer, shape, pixel_size)[WHOLE]


@hypothesis.given(mask=masks())
@QUICK
def test_without_tolerance_a_mask_comes_back_exactly(tmp_path_factory, mask):
    path = write(tmp_path_factory.mktemp("layout") / "a.gds", mask, 0.0333, tolerance=0)
    if mask.any():
        np.testing.assert_array_equal(read(path, mask.shape, 0.0333), mask)


@pytest.mark.parametrize("ending", ["gds", "oas"])
@pytest.mark.parametrize("pixel_size", [1.0, 0.02, 0.0123, 7.7e-4])
def test_any_part_is_that_of_the_whole(tmp_path, ending, pixel_size, monkeypatch):
    """In blocks of any size; nothing depends on the size of pixels or the format."""
    monkeypatch.setattr(layout_reader, "BLOCK", 32)
    mask = blobs(1)
    path = write(tmp_path / f"a.{ending}", mask, pixel_size, tolerance=0)
    layer = DrawnLayout(path, read_layout(path)).mask((1, 0), mask.shape, pixel_size)
    np.testing.assert_array_equal(layer[WHOLE], mask)
    np.testing.assert_array_equal(layer[7:70, 40:41], mask[7:70, 40:41])


def test_with_the_default_tolerance_no_net_and_hardly_any_area_is_lost(tmp_path):
    mask = np.kron(blobs(2, (60, 70)), np.ones((12, 12), bool))
    back = read(write(tmp_path / "a.gds", mask), mask.shape)
    assert count_regions_and_holes(back) == count_regions_and_holes(mask)
    assert abs(back.sum() / mask.sum() - 1) < 1e-3


def test_a_pixel_is_inside_if_more_than_half_of_it_is(tmp_path):
    """What several shapes cover counts once; paths and texts are drawn with their width."""
    library = gdstk.Library(unit=1e-6, precision=1e-9)
    cell = library.new_cell("TOP")
    cell.add(gdstk.rectangle((0, 0), (0.6, 1), layer=1), gdstk.rectangle((2, 0), (2.3, 1), layer=1))
    for left in (4, 4.1):  # together less than half
        cell.add(gdstk.rectangle((left, 0), (left + 0.3, 1), layer=1))
    cell.add(gdstk.FlexPath([(6, 2.5), (9, 2.5)], 1, layer=1, simple_path=True))
    cell.add(gdstk.Label("net", (1.5, 1.5), layer=1))
    library.write_gds(tmp_path / "a.gds")
    expected = np.zeros((4, 10), bool)
    expected[3, 0] = expected[1, 6:9] = True
    np.testing.assert_array_equal(read(tmp_path / "a.gds", (4, 10), 1.0), expected)


def test_cells_are_placed_turned_and_repeated(tmp_path):
    layout = db.Layout()
    top, part = layout.create_cell("TOP"), layout.create_cell("PART")
    part.shapes(layout.layer(1, 0)).insert(db.Box(0, 0, 1000, 3000))
    turned = db.Trans(db.Trans.R90, 4000, 1000)
    top.insert(db.CellInstArray(part.cell_index(), turned))
    repeated = db.Trans(6000, 0), db.Vector(2000, 0), db.Vector(0, 4000), 2, 2
    top.insert(db.CellInstArray(part.cell_index(), *repeated))
    layout.write(str(tmp_path / "a.oas"))
    expected = np.zeros((7, 9), bool)
    expected[5, 1:4] = expected[4:, 6] = expected[4:, 8] = expected[:3, 6] = expected[:3, 8] = True
    np.testing.assert_array_equal(read(tmp_path / "a.oas", (7, 9), 1.0), expected)


def test_a_cell_is_named_where_there_are_several(tmp_path):
    layout = db.Layout()
    for name in ("A", "B"):
        shapes = layout.create_cell(name).shapes(layout.layer(3, 1))
        shapes.insert(db.Box(0, 0, 1000, 1000 if name == "A" else 2000))
    path = tmp_path / "a.gds"
    layout.write(str(path))
    with pytest.raises(UserError, match=r"2 topmost cells \(A, B\): save a file with one of them"):
        DrawnLayout(path, read_layout(path))
    with pytest.raises(UserError, match="has no cell 'C': its topmost are A, B"):
        DrawnLayout(path, read_layout(path), "C")
    assert DrawnLayout(path, read_layout(path), "B").layers() == [(3, 1)]
    assert read(path, (2, 1), 1.0, (3, 1), cell="A").tolist() == [[False], [True]]


def test_a_shape_that_is_repeated_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(layout_reader, "MAX_SHAPES", 1000)
    layout = db.Layout()
    top, part = layout.create_cell("TOP"), layout.create_cell("PART")
    part.shapes(layout.layer(1, 0)).insert(db.Box(0, 0, 1, 1))
    million = db.Trans(), db.Vector(1, 0), db.Vector(0, 1), 1000, 1000
    top.insert(db.CellInstArray(part.cell_index(), *million))
    layout.write(str(tmp_path / "a.gds"))
    with pytest.raises(UserError, match="has over 1,000 shapes in 512x512 pixels: merge them"):
        read(tmp_path / "a.gds", (64, 64), 1.0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is neither GDSII nor OASIS"),
        (b"<svg/>", "is neither GDSII nor OASIS"),
        (b"\x00\x06\x00\x02\x02\x58", "cannot be read"),
        (b"%SEMI-OASIS\r\n\x01", "cannot be read"),
    ],
)
def test_what_is_no_layout_is_refused(tmp_path, content, sentence):
    path = tmp_path / "a.gds"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        DrawnLayout(path, read_layout(path))


@pytest.mark.parametrize(("text", "layer"), [("1/0", (1, 0)), ("7", (7, 0)), ("63/20", (63, 20))])
def test_layers_are_parsed(text, layer):
    assert layer_of(text) == layer


@pytest.mark.parametrize("text", ["", "a", "1/2/3", "-1", "70000"])
def test_senseless_layers_are_refused(text):
    with pytest.raises(ValueError):
        layer_of(text)
