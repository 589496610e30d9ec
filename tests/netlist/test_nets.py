"""Nets of stacks: those that were drawn, their names and files, and what cannot be extracted."""

import csv
import pathlib

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die, sample_die
from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.netlist import extraction, net_files, stack
from eal_icnet_jax.netlist.stack import LayerSource
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector.layout_files import write_layout
from eal_icnet_jax.vector.layout_options import ShapeOptions
from tests import cli

kdb = pytest.importorskip("klayout.db")

SIDE, HEIGHT = 0.1, 60


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A drawn stack of three metals."""
    folder = tmp_path_factory.mktemp("drawn") / "die"
    sample_die.write_die(folder, die.Die(900, 1100, seed=1, optical=False, metals=3), SIDE)
    return folder


def sources_of(folder: pathlib.Path, metals: int) -> list[LayerSource]:
    return [
        LayerSource(f"{kind}{number}", path)
        for number in range(1, metals + 1)
        for kind in ("metal", "via")
        if (path := folder / f"layer{number}" / f"{kind}.ome.tif").exists()
    ]


def net_at(found: extraction.Extraction, layer: str, x: float, y: float) -> str:
    """Return the name of the net at a place in micrometres."""
    region = found.database.layer_by_name(layer)
    net = found.database.probe_net(region, kdb.DPoint(x, y))
    return net.name if net else ""


def test_exact_masks_give_the_nets_that_were_drawn(drawn):
    found = extraction.extract(stack.read_stack(sources_of(drawn, 3)))
    assert not found.notes
    with (drawn / "nets.csv").open() as file:
        regions = list(csv.DictReader(file))
    pairs = {
        (row["net"], net_at(found, row["layer"], SIDE * (int(row["x"]) + 0.5),
                            SIDE * (899.5 - int(row["y"]))))
        for row in regions
    }  # fmt: skip
    count = len({row["net"] for row in regions})
    assert len(pairs) == count == len(found.nets)  # one to one
    assert len({name for _, name in pairs}) == count
    assert sum(len(net.shapes) > 2 for net in found.nets) > 5
    shapes = sum(sum(net.shapes.values()) for net in found.nets)
    assert shapes == len(regions)


@pytest.fixture
def masks(tmp_path):
    """Two wires on each of two metals, crossing, and a via at one of the four crossings."""
    metal1, via1, metal2 = np.zeros((3, HEIGHT, 80), np.uint8)
    metal1[10:16, 5:75] = metal1[40:46, 5:75] = 255
    metal2[5:55, 20:26] = metal2[5:55, 50:56] = 255
    via1[11:15, 21:25] = 255
    for name, mask in {"metal1": metal1, "via1": via1, "metal2": metal2}.items():
        png.write(tmp_path / f"{name}.png", mask, (SIDE, SIDE))
    return {name: tmp_path / f"{name}.png" for name in ("metal1", "via1", "metal2")}


def extracted(paths, **options):
    sources = [LayerSource(name, path) for name, path in paths.items()]
    return extraction.extract(stack.read_stack(sources), **options)


def test_a_via_joins_two_wires(masks):
    joined, *others = extracted(masks).nets
    assert joined.shapes == {"metal1": 1, "via1": 1, "metal2": 1}
    assert [net.shapes for net in others] == [{"metal1": 1}, {"metal2": 1}]
    # 70x6 and 6x50 pixels of 0.1 um.
    assert joined.length == pytest.approx(SIDE * (76 + 56), rel=0.01)
    assert joined.area == pytest.approx(SIDE**2 * (420 + 300), rel=0.01)
    assert joined.box == pytest.approx((0.5, 0.5, 7.5, 5.5), abs=0.01)
    assert [net.name for net in (joined, *others)] == ["N1", "N2", "N3"]


def test_layouts_of_any_grid_give_the_nets_of_their_masks(masks, tmp_path):
    paths = {}
    for name, path in masks.items():
        kind = name[:-1]
        paths[name] = tmp_path / f"{name}.{'oas' if kind == 'via' else 'gds'}"
        mask = mosaic_files.open_mosaic(path)
        write_layout(paths[name], {kind: mask}, SIDE, ShapeOptions(via_shape="box"))
    coarse = kdb.Layout()
    coarse.read(str(paths["via1"]))
    coarse.dbu *= 10
    for shape in coarse.top_cell().shapes(coarse.layer(2, 0)).each():
        shape.polygon = shape.polygon.transformed(kdb.ICplxTrans(0.1))
    coarse.write(str(paths["via1"]))
    assert [net.shapes for net in extracted(paths).nets] == [
        net.shapes for net in extracted(masks).nets
    ]
    mixed = {**masks, "metal2": paths["metal2"]}
    assert [net.box for net in extracted(mixed).nets] == [net.box for net in extracted(masks).nets]


def test_labels_name_nets_and_show_opens_and_shorts(masks, tmp_path):
    names = tmp_path / "names.csv"
    names.write_text(
        "name,layer,x,y\nA,metal1,1,4.7\nB,metal2,2.3,1\nC,metal1,1,1.7\nC,metal2,5.3,1\n"
    )
    found = extracted(masks, labels=extraction.read_net_labels(names))
    assert [net.name for net in found.nets] == ["A+B", "C$1", "C$2"]
    assert found.notes == (
        "A and B are one net: there is a short, or a name is wrong",
        "C is 2 nets: there is an open, or a name is wrong",
    )
    names.write_text("name,layer,x,y\nA,metal1,1,3\n")
    with pytest.raises(UserError, match="line 2: there is nothing on metal1 at x 1, y 3"):
        extracted(masks, labels=extraction.read_net_labels(names))


def test_vias_that_meet_at_a_corner_reach_no_metal_beside_them(tmp_path):
    """An L of metal with an L of vias on it, and another wire in the corner of both."""
    metal, via = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    metal[10:20, 5:25] = metal[20:40, 5:14] = metal[24:40, 18:50] = 255
    via[12:34, 7:12] = via[12:18, 7:24] = 255
    paths = {"metal1": tmp_path / "m.png", "via1": tmp_path / "v.png", "metal2": tmp_path / "n.png"}
    for path, mask in zip(paths.values(), (metal, via, metal), strict=True):
        png.write(path, mask, (0.1, 0.1))
    found = extracted(paths)
    assert [net.shapes for net in found.nets] == [
        {"metal1": 1, "via1": 1, "metal2": 1}, {"metal1": 1}, {"metal2": 1},
    ]  # fmt: skip


def test_names_of_nets_are_unique(masks, tmp_path):
    """A joined name that a label elsewhere also gives."""
    names = tmp_path / "names.csv"
    names.write_text("name,layer,x,y\nA,metal1,1,4.7\nB,metal2,2.3,1\nA+B,metal1,1,1.7\n")
    found = extracted(masks, labels=extraction.read_net_labels(names))
    assert [net.name for net in found.nets][:2] == ["A+B_", "A+B"]
    names.write_text('name,layer,x,y\n"A\nB",metal1,1,4.7\n')
    with pytest.raises(UserError, match="holds a control character: remove it"):
        extraction.read_net_labels(names)


def test_vias_that_touch_nothing_are_counted(masks):
    via = np.zeros((HEIGHT, 80), np.uint8)
    via[11:15, 21:25] = via[11:15, 60:64] = via[30:34, 30:34] = 255
    png.write(masks["via1"], via, (SIDE, SIDE))
    assert extracted(masks).notes == (
        "1 of 3 shapes of via1 do not touch metal1",
        "2 of 3 shapes of via1 do not touch metal2",
    )


def test_files_hold_the_nets_and_are_equal_for_equal_nets(masks, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    arguments = [f"--{name}={path}" for name, path in masks.items()]
    names = tmp_path / "names.csv"
    names.write_text("name,layer,x,y\nclock,metal1,1,4.7\n")
    result = cli.call("nets", *arguments, "-o", out / "chip.l2n", f"--labels={names}")
    assert result.returncode == 0, result.stderr
    assert "3 nets, 1 of them on several layers" in result.stdout
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(first) == {"chip.l2n", "chip.csv", "chip.gds"}
    cli.call("nets", *arguments, "-o", out / "chip.l2n", f"--labels={names}")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    with (out / "chip.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == net_files.COLUMNS
    assert (rows[0]["net"], rows[0]["layers"], rows[0]["shapes"]) == (
        "clock", "metal1 via1 metal2", "3"
    )  # fmt: skip
    database = kdb.LayoutToNetlist()
    database.read_l2n(str(out / "chip.l2n"))
    (circuit,) = database.netlist().each_circuit()
    assert sorted(net.name for net in circuit.each_net()) == ["N2", "N3", "clock"]
    layout = kdb.Layout()
    layout.read(str(out / "chip.gds"))
    cell = layout.top_cell()
    for row in rows:
        layer = layout.layer(1, 0) if "metal1" in row["layers"] else layout.layer(3, 0)
        shapes = list(cell.shapes(layer).each())
        (text,) = [s.dtext for s in shapes if s.is_text() and s.text_string == row["net"]]
        point = kdb.DPoint(text.x, text.y)
        assert any((s.is_polygon() and s.dpolygon.inside(point)) or (s.is_box() and
                   s.dbox.contains(point)) for s in shapes)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"via1": None}, "metal1 and metal2 are not connected without via1: name --via1"),
        ({"metal2": None}, "--via1 connects metal1 to metal2, and both are needed"),
        ({"metal1": None, "via1": None, "metal2": None}, "name at least --metal1"),
        ({"metal2": np.zeros((50, 80))}, "metal1 has 60x80 pixels .* and metal2 50x80: bring"),
        ({"metal1": "nothing.png"}, "nothing.png cannot be read: No such file"),
    ],
)
def test_layers_that_do_not_fit_are_reported(masks, tmp_path, change, message):
    paths = dict(masks)
    for name, value in change.items():
        if value is None:
            del paths[name]
        elif isinstance(value, str):
            paths[name] = tmp_path / value
        else:
            png.write(paths[name], value.astype(np.uint8), (SIDE, SIDE))
    with pytest.raises(UserError, match=message):
        extracted(paths)


def test_pixels_of_other_sizes_and_of_unknown_size_are_reported(masks, tmp_path):
    mask = np.zeros((HEIGHT, 80), np.uint8)
    mask[5:55, 20:26] = 255
    png.write(masks["metal2"], mask, (0.2, 0.2))
    with pytest.raises(UserError, match=r"pixels of 0.1 um, and .*metal2.png of 0.2 um: name"):
        extracted(masks)
    for path in masks.values():
        png.write(path, mask)
    found = extracted(masks)
    assert any("micrometres stand for pixels" in note for note in found.stack.notes)
    assert found.nets[0].box.top == pytest.approx(55, abs=0.6)
    layout = tmp_path / "metal1.gds"
    write_layout(layout, {"metal": mask}, SIDE)
    with pytest.raises(UserError, match="is unknown, and layouts have micrometres: name --pixel"):
        extracted({**masks, "metal1": layout})


def test_a_layer_of_a_layout_is_named_behind_an_at(masks, tmp_path):
    layout = tmp_path / "chip.gds"
    write_layout(layout, {"metal": mosaic_files.open_mosaic(masks["metal1"])}, SIDE)
    assert stack.source_of("via1", f"{layout}@1/0") == LayerSource("via1", layout, (1, 0))
    assert stack.source_of("via1", "a@b.png") == LayerSource("via1", pathlib.Path("a@b.png"))
    with pytest.raises(UserError, match=r"name a layer behind the @, such as chip\.gds@31/0"):
        stack.source_of("via1", f"{layout}@x")
    with pytest.raises(
        UserError, match="has nothing on layer 2/0: name another one, such as --via1"
    ):
        extracted({**masks, "via1": layout})


def test_an_array_without_end_is_refused(masks, tmp_path):
    """A few bytes of a layout can repeat a cell a million million times."""
    layout = kdb.Layout()
    top, part = layout.create_cell("TOP"), layout.create_cell("PART")
    part.shapes(layout.layer(1, 0)).insert(kdb.Box(0, 0, 10, 10))
    step = kdb.Vector(20, 0), kdb.Vector(0, 20)
    top.insert(kdb.CellInstArray(part.cell_index(), kdb.Trans(), *step, 30_000, 30_000))
    path = tmp_path / "bomb.gds"
    layout.write(str(path))
    with pytest.raises(UserError, match="has over 5,000,000 shapes on layer 1/0: merge them"):
        extracted({**masks, "metal1": path})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net,x,y\n", "has no column layer, name: its first line must be name,layer,x,y"),
        ("name,layer,x,y\nA,metal1,one,2\n", "line 2: x must be a number of micrometres"),
        ("name,layer,x,y\nA,metal1,nan,2\n", "line 2: x must be a number of micrometres"),
        ("name,layer,x,y\nA,metal1,1,-1e300\n", "line 2: y must be a number of micrometres"),
        ("name,layer,x,y\n,metal1,1,2\n", "line 2: the name is empty"),
    ],
)
def test_a_damaged_file_of_names_is_reported(tmp_path, text, message):
    path = tmp_path / "names.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        extraction.read_net_labels(path)


def test_results_replace_no_foreign_file(masks, tmp_path):
    arguments = [f"--{name}={path}" for name, path in masks.items()]
    (tmp_path / "chip.l2n").write_text("mine")
    error = cli.error_of("nets", *arguments, "-o", tmp_path / "chip.l2n")
    assert "exists and was not written by this program" in error
    assert "let it end in .l2n" in cli.error_of("nets", *arguments, "-o", tmp_path / "chip.gds")
    layout = tmp_path / "own.gds"
    write_layout(layout, {"metal": mosaic_files.open_mosaic(masks["metal1"])}, SIDE)
    arguments[0] = f"--metal1={layout}"
    error = cli.error_of("nets", *arguments, "-o", tmp_path / "own.l2n")
    assert "own.gds would be replaced by a result" in error
