"""Masks become polygons of the same area and count, as KLayout reads them back."""

import cv2
import numpy as np
import pytest
import shapely
from eal_icnet_jax.datasets.hy5syn import svg_labels
from klayout import db

from eal_icnet_jax import images, layout
from eal_icnet_jax.electrical import connected
from eal_icnet_jax.errors import UserError
from tests import commands, disks


def blobs(seed: int, shape=(90, 110)) -> np.ndarray:
    """A mask of regions with holes, some of a pixel, some that meet at a corner."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 1.5)
    return (smooth > 0.05) ^ (rng.random(shape) > 0.99)


def painted(polygons, shape) -> np.ndarray:
    """The pixels whose centres lie in polygons."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(shapely.union_all(polygons), x.ravel(), y.ravel()).reshape(shape)


def read_back(path, layer=(1, 0)) -> tuple[db.Region, float]:
    """The merged shapes of a layer, and micrometres a grid step."""
    layout = db.Layout()
    layout.read(str(path))
    region = db.Region(layout.top_cell().begin_shapes_rec(layout.layer(*layer)))
    return db.Region([*region.each_merged()]), layout.dbu  # of its own, when the layout is gone


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [7, 64, 4096])
def test_outlines_hold_just_their_pixels(seed, block):
    """Whatever the size of the blocks that are looked at."""
    mask = blobs(seed)
    found = layout.outlines(mask, block)
    assert shapely.is_valid(found).all()
    assert len(found) == len(connected(mask)[1]) - 1
    np.testing.assert_array_equal(painted(found, mask.shape), mask)
    holes = sum(len(polygon.interiors) for polygon in found)
    assert sum(p.area for p in found) == mask.sum() - len(found) / 2 + holes / 2
    assert shapely.bounds(found).min() >= 0


def test_outlines_of_nothing_and_of_everything():
    for shape in ((1, 1), (1, 9), (9, 1), (8, 8), (9, 9)):
        assert layout.outlines(np.zeros(shape, bool), 4) == []
        (whole,) = layout.outlines(np.ones(shape, bool), 4)
        assert whole.area == np.prod(shape) - 0.5 and whole.bounds == (0, 0, *shape[::-1])


@pytest.mark.parametrize("tolerance", [0.3, 0.5, 2])
def test_simplification_is_bounded(tolerance):
    found = layout.outlines(blobs(0))
    for before, after in zip(found, layout.simplified(found, tolerance), strict=True):
        assert before.boundary.hausdorff_distance(after.boundary) <= tolerance + 1e-9
        assert shapely.get_num_coordinates(after) <= shapely.get_num_coordinates(before)
    if tolerance <= 0.5:  # regions stay apart
        assert len(layout.simplified(found, tolerance)) == len(found)
        parts = shapely.union_all(layout.simplified(found, tolerance))
        assert len(shapely.get_parts(parts)) == len(found)


def upright(polygon) -> bool:
    """Whether all edges are horizontal or vertical."""
    rings = (polygon.exterior, *polygon.interiors)
    return all((np.diff(ring.coords, axis=0) == 0).any(1).all() for ring in rings)


@pytest.mark.parametrize("seed", range(4))
def test_manhattan_outlines(seed):
    mask = blobs(seed)
    found = layout.outlines(mask)
    exact = [layout.manhattan(polygon, 0) for polygon in found]
    assert all(map(upright, exact))
    assert sum(polygon.area for polygon in exact) == mask.sum()
    straight = [layout.manhattan(polygon, 2) for polygon in found]
    assert all(map(upright, straight))
    fewer, all_of_them = (sum(map(len, map(corners, p))) for p in (straight, exact))
    assert fewer < 0.7 * all_of_them


def corners(polygon):
    return shapely.get_coordinates(polygon)


def test_steps_of_a_line_are_straightened():
    mask = np.zeros((30, 80), bool)
    mask[10:16, 5:40], mask[11:17, 40:75] = True, True
    mask[9, 20:22] = True  # a bump
    mask[17:25, 50:52] = True  # as wide, but no bump
    (polygon,) = layout.outlines(mask)
    straight = layout.manhattan(polygon, 2)
    left, top, right, bottom = straight.bounds
    assert (left, right, bottom) == (5, 75, 25) and 10 < top < 11
    assert len(straight.exterior.coords) - 1 == 8
    assert straight.hausdorff_distance(layout.manhattan(polygon, 0)) <= 1.5


def test_vias_are_circles_boxes_or_outlines():
    mask = np.zeros((60, 60), np.uint8)
    cv2.circle(mask, (20, 30), 9, 1, cv2.FILLED)
    mask[40:50, 40:52] = 1
    found = layout.outlines(mask)
    disc, square = layout.via_shapes(found, "circle")
    assert disc.area == pytest.approx(found[0].area) and square.area == pytest.approx(119.5)
    assert disc.centroid.coords[0] == pytest.approx((20.5, 30.5))
    assert [p.bounds for p in layout.via_shapes(found, "box")] == [p.bounds for p in found]
    assert layout.via_shapes(found, "box")[1].area == 120
    assert layout.via_shapes(found, "outline") == found


@pytest.mark.parametrize("ending", ["gds", "oas"])
def test_klayout_reads_what_was_written(tmp_path, ending):
    """Areas in square micrometres, wires, holes, layers, and what is up."""
    metal, via = blobs(1), np.zeros((90, 110), bool)
    metal[:20] = False
    via[4:10, 4:10] = True
    path = tmp_path / f"die 1.{ending}"
    shapes = layout.Shapes(tolerance=0, via="box")
    counts = layout.write(path, {"metal": metal, "via": via}, 0.02, shapes)
    found = layout.outlines(metal)
    assert counts == {"metal": len(found), "via": 1}
    wires, step = read_back(path)
    assert wires.count() == len(found)
    assert wires.holes().count() == sum(len(polygon.interiors) for polygon in found)
    area = sum(polygon.area for polygon in found) * 0.02**2
    assert wires.area() * step**2 == pytest.approx(area, rel=1e-9)
    vias, _ = read_back(path, (2, 0))
    box = vias.bbox()
    assert [k * step for k in (box.left, box.bottom, box.right, box.top)] == pytest.approx(
        [4 * 0.02, 80 * 0.02, 10 * 0.02, 86 * 0.02]
    )
    again = tmp_path / "again" / path.name
    again.parent.mkdir()
    layout.write(again, {"metal": metal, "via": via}, 0.02, shapes)
    assert again.read_bytes() == path.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {path.name, "again"}


def test_a_wire_of_many_corners_stays_whole(tmp_path):
    """GDSII's polygons have at most 8190: its pieces meet."""
    mask = np.zeros((4, 20000), bool)
    mask[1:3] = True
    mask[0, ::2] = True
    shapes = layout.Shapes(tolerance=0)
    assert layout.write(tmp_path / "a.gds", {"metal": mask}, 0.1, shapes) == {"metal": 1}
    wires, step = read_back(tmp_path / "a.gds")
    assert wires.count() == 1
    assert wires.area() * step**2 == pytest.approx((mask.sum() - 0.5) * 0.01, rel=1e-6)


def test_svg_is_what_hy5syn_reads(tmp_path):
    metal, via = blobs(2), np.zeros((90, 110), np.uint8)
    cv2.circle(via, (40, 50), 5, 1, cv2.FILLED, cv2.LINE_4)
    layout.write(tmp_path / "label.svg", {"metal": metal, "via": via})
    masks, _ = svg_labels.read(tmp_path / "label.svg")
    np.testing.assert_array_equal(masks["label"], metal)
    np.testing.assert_array_equal(masks["via_label"], via > 0)


def test_the_command(tmp_path):
    for name, mask in (("metal", blobs(3)), ("via", blobs(2)), ("other", np.ones((8, 8)))):
        images.write(tmp_path / f"{name}.png", 255 * mask.astype(np.uint8))
    metal, via = (f"--{kind}={tmp_path / kind}.png" for kind in ("metal", "via"))
    out = f"--output={tmp_path / 'out.gds'}"
    ran = commands.run("layout", metal, via, out, "--pixel-size=0.5", "--manhattan")
    assert ran.returncode == 0, ran.stderr
    count = len(layout.outlines(blobs(3)))
    assert ran.stdout.startswith(f"{count} metal, ")
    assert read_back(tmp_path / "out.gds")[0].count() <= count


def test_bad_input_is_told(tmp_path, capsys):
    images.write(tmp_path / "a.png", np.ones((8, 8), np.uint8))
    images.write(tmp_path / "b.png", np.ones((8, 9), np.uint8))
    metal, out = f"--metal={tmp_path / 'a.png'}", f"--output={tmp_path / 'a.gds'}"
    for argv, sentence in (
        ([out], "there is no mask: name one with --metal or --via"),
        ([metal, f"--output={tmp_path / 'a.dxf'}"], "names no layout: let it end in .gds, .oas"),
        ([metal, f"--output={tmp_path / 'no' / 'a.gds'}"], "is not a folder"),
        ([metal, out, f"--via={tmp_path / 'b.png'}"], "the masks are 8x8 and 8x9"),
        ([metal, out, "--pixel-size=0"], "--pixel-size is 0.0"),
        ([metal, out, "--tolerance=nan"], "--tolerance is nan"),
        ([f"--metal={tmp_path / 'c.png'}", out], "cannot be read: No such file"),
    ):
        with pytest.raises(SystemExit) as caught:
            layout.main(argv)
        assert caught.value.code == 1
        assert sentence in capsys.readouterr().err, argv
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}
    with pytest.raises(UserError, match="is not a folder"):
        layout.write(tmp_path / "no" / "a.oas", {"metal": np.ones((8, 8), bool)})


@pytest.mark.parametrize("ending", ["gds", "oas", "svg"])
def test_a_disk_that_fills_up_leaves_no_half_layout(tmp_path, ending):
    """gdstk writes on without a word."""
    mask = np.random.default_rng(0).random((256, 256)) > 0.6
    with disks.mounted(tmp_path / "disk", "size=32k"):
        path = tmp_path / "disk" / f"a.{ending}"
        with pytest.raises(UserError, match=rf"a\.{ending} cannot be written: .*full|No space"):
            layout.write(path, {"metal": mask})
        assert not list(path.parent.iterdir())
