import cv2
import numpy as np
import pytest

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import layout_files, outlines, svg_labels
from eal_icnet_jax.vector.layout_options import LAYERS, ShapeOptions
from eal_icnet_jax.vector.simplification import simplify
from tests import disks
from tests.vector.sample_masks import blobs, read_layer


@pytest.mark.parametrize("ending", ["gds", "oas"])
def test_klayout_reads_what_was_written(tmp_path, ending):
    """Areas in square micrometres, wires, holes, layers, and the direction of y."""
    metal, via = blobs(1), np.zeros((90, 110), bool)
    metal[:20] = False
    via[4:10, 4:10] = True
    path = tmp_path / f"die 1.{ending}"
    options = ShapeOptions(tolerance=0, via_shape="box")
    counts = layout_files.write_layout(path, {"metal": metal, "via": via}, 0.02, options)
    polygons = simplify(outlines.trace(metal), 0)
    assert counts == {"metal": len(polygons), "via": 1}
    wires, step = read_layer(path)
    assert wires.count() == len(polygons)
    assert wires.holes().count() == sum(len(polygon.interiors) for polygon in polygons)
    area = sum(polygon.area for polygon in polygons) * 0.02**2
    assert wires.area() * step**2 == pytest.approx(area, rel=1e-9)
    vias, _ = read_layer(path, (2, 0))
    box = vias.bbox()
    assert [k * step for k in (box.left, box.bottom, box.right, box.top)] == pytest.approx(
        [4 * 0.02, 80 * 0.02, 10 * 0.02, 86 * 0.02]
    )
    assert {p.name for p in tmp_path.iterdir()} == {path.name}


@pytest.mark.parametrize("ending", ["gds", "oas"])
def test_equal_masks_give_equal_files(tmp_path, ending):
    paths = [tmp_path / name / f"die.{ending}" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        layout_files.write_layout(path, {"metal": blobs(1), "via": blobs(2)}, 0.02)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_wire_of_more_corners_than_gdsii_allows_stays_connected(tmp_path):
    """A polygon of GDSII has 8190 corners at most, so that it is written in pieces that touch."""
    mask = np.zeros((4, 20000), bool)
    mask[1:3] = True
    mask[0, ::2] = True
    path = tmp_path / "a.gds"
    counts = layout_files.write_layout(path, {"metal": mask}, 0.1, ShapeOptions(tolerance=0))
    assert counts == {"metal": 1}
    wires, step = read_layer(path)
    assert wires.count() == 1
    assert wires.area() * step**2 == pytest.approx(mask.sum() * 0.01, rel=1e-4)


def test_an_svg_holds_the_masks_exactly(tmp_path):
    metal, via = blobs(2), np.zeros((90, 110), np.uint8)
    cv2.circle(via, (40, 50), 5, 1, cv2.FILLED, cv2.LINE_4)
    layout_files.write_layout(tmp_path / "label.svg", {"metal": metal, "via": via})
    masks, notes = svg_labels.read(tmp_path / "label.svg")
    np.testing.assert_array_equal(masks["label"], metal)
    np.testing.assert_array_equal(masks["via_label"], via > 0)
    assert not notes


def test_an_assumed_pixel_size_is_reported(tmp_path, capsys):
    masks = {"metal": np.ones((8, 8), bool)}
    layout_files.write_layout(tmp_path / "a.svg", masks)
    layout_files.write_layout(tmp_path / "a.gds", masks, 0.5)
    assert not capsys.readouterr().err
    layout_files.write_layout(tmp_path / "a.gds", masks)
    assert "pixel size unknown, 1 um assumed" in capsys.readouterr().err
    wires, step = read_layer(tmp_path / "a.gds")
    assert wires.bbox().width() * step == pytest.approx(8)


@pytest.mark.parametrize("ending", ["gds", "oas"])
@pytest.mark.parametrize("pixel_size", [1e-6, 0.0007, 0.005, 0.02, 0.1, 5])
@pytest.mark.parametrize("options", [{}, {"manhattan": True, "jog": 3}])
def test_the_grid_of_a_file_keeps_shapes_apart(tmp_path, ending, pixel_size, options):
    """Rounding to the grid merges no shapes, whatever the size of a pixel."""
    mask, path = blobs(5), tmp_path / f"a.{ending}"
    options = ShapeOptions(**options)
    counts = layout_files.write_layout(path, {"metal": mask, "via": mask}, pixel_size, options)
    for kind, layer in LAYERS.items():
        shapes, step = read_layer(path, layer)
        assert shapes.count() == counts[kind] > 50
    shapes, step = read_layer(path)
    assert shapes.bbox().width() * step == pytest.approx(mask.shape[1] * pixel_size, rel=1e-3)


@pytest.mark.parametrize("ending", ["gds", "oas"])
def test_a_layout_of_almost_32_bits_is_read_by_klayout(tmp_path, ending):
    wire = np.ones((1, 20_000), bool)
    layout_files.write_layout(tmp_path / f"a.{ending}", {"metal": wire}, 107)
    shapes, step = read_layer(tmp_path / f"a.{ending}")
    assert shapes.bbox().width() * step == pytest.approx(20_000 * 107)


@pytest.mark.parametrize("ending", ["gds", "oas"])
@pytest.mark.parametrize(
    ("pixel_size", "message"),
    [
        (108, r"cannot hold 20000 pixels of 108 micrometres, .* more than 32 bits: name a smaller"),
        (1e300, "more than 32 bits"),
        (1e-7, "--pixel-size is 1e-07: it must be at least 1e-06 micrometres"),
        (float("nan"), "--pixel-size is nan: it must be"),
        (float("inf"), "--pixel-size is inf: it must be"),
    ],
)
def test_coordinates_that_do_not_fit_are_refused(tmp_path, ending, pixel_size, message):
    with pytest.raises(UserError, match=message):
        wire = {"metal": np.ones((1, 20_000), bool)}
        layout_files.write_layout(tmp_path / f"a.{ending}", wire, pixel_size)
    assert not list(tmp_path.iterdir())


def test_a_circle_beyond_the_image_counts_too(tmp_path):
    via, path = {"via": np.ones((2000, 2000), bool)}, tmp_path / "a.gds"
    with pytest.raises(UserError, match=r"a\.gds cannot hold 2133 pixels of 1050 micrometres"):
        layout_files.write_layout(path, via, 1050)
    assert not list(tmp_path.iterdir())
    layout_files.write_layout(path, via, 1050, ShapeOptions(via_shape="box"))
    shapes, step = read_layer(path, LAYERS["via"])
    assert shapes.bbox().height() * step == pytest.approx(2000 * 1050)


def test_a_folder_that_does_not_exist_is_reported(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        layout_files.write_layout(tmp_path / "no" / "a.oas", {"metal": np.ones((8, 8), bool)})


@pytest.mark.parametrize("ending", ["gds", "oas", "svg"])
def test_a_full_disk_leaves_no_incomplete_layout(tmp_path, ending):
    """gdstk itself reports no error."""
    mask = np.random.default_rng(0).random((256, 256)) > 0.6
    with disks.mounted(tmp_path / "disk", "size=32k"):
        path = tmp_path / "disk" / f"a.{ending}"
        with pytest.raises(UserError, match=rf"a\.{ending} cannot be written: .*full|No space"):
            layout_files.write_layout(path, {"metal": mask})
        assert not list(path.parent.iterdir())
