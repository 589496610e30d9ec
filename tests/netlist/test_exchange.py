"""Nets for Degate, Deroute and SPICE: what is read back is what was written."""

import itertools

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die, sample_die
from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.netlist import exchange, extraction, flat_wires, stack
from eal_icnet_jax.netlist.stack import LayerSource
from eal_icnet_jax.netlist.wires import wires_and_vias
from eal_icnet_jax.system.errors import UserError
from tests import cli
from tests.netlist.exchange_readers import follow, read_degate, read_deroute

kdb = pytest.importorskip("klayout.db")

SIDE, HEIGHT, WIDTH = 0.1, 900, 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A drawn stack of three metals."""
    folder = tmp_path_factory.mktemp("drawn") / "die"
    drawn = die.Die(HEIGHT, WIDTH, seed=1, optical=False, metals=3)
    sample_die.write_die(folder, drawn, SIDE)
    return folder


def sources_of(folder):
    return [
        LayerSource(f"{kind}{number}", path)
        for number, kind in itertools.product((1, 2, 3), ("metal", "via"))
        if (path := folder / f"layer{number}" / f"{kind}.ome.tif").exists()
    ]


@pytest.fixture(scope="module")
def nets(folder):
    return extraction.extract(stack.read_stack(sources_of(folder)))


@pytest.fixture(scope="module")
def drawing(nets):
    return exchange.drawing_of(nets)


def test_wires_lie_in_the_metal(folder, nets):
    wires, vias = wires_and_vias(nets, SIDE)
    assert len(vias) == sum(net.shapes.get(f"via{k}", 0) for net in nets.nets for k in (1, 2))
    for number in (1, 2, 3):
        mosaic = mosaic_files.open_mosaic(folder / f"layer{number}" / "metal.ome.tif")
        metal = mosaic[0:HEIGHT, 0:WIDTH] > 0
        near = np.pad(metal, 2)
        near = np.any([near[y : y + HEIGHT, x : x + WIDTH]
                       for y, x in itertools.product(range(5), repeat=2)], 0)  # fmt: skip
        inside = []
        for wire in wires:
            if wire.layer == f"metal{number}":
                for part in np.linspace(0, 1, 7):
                    x, y = np.multiply(wire.start, 1 - part) + np.multiply(wire.end, part)
                    row = min(int(HEIGHT - y / SIDE), HEIGHT - 1)
                    inside.append(near[row, min(int(x / SIDE), WIDTH - 1)])
        assert len(inside) > 500 and all(inside)


def test_wires_of_a_net_meet(nets):
    """The ends of the wires and the vias of each net are connected by coordinates alone."""
    wires, vias = wires_and_vias(nets, SIDE)
    groups: dict = {net.name: {} for net in nets.nets}

    def find(group, key):
        while group.setdefault(key, key) != key:
            key = group[key]
        return key

    for wire in wires:
        group = groups[wire.net]
        ends = [(wire.layer, *np.round(end, 3)) for end in (wire.start, wire.end)]
        group[find(group, ends[0])] = find(group, ends[1])
    for via in vias:
        group, number = groups[via.net], int(via.layer[3:])
        keys = [(f"metal{k}", *np.round((via.x, via.y), 3)) for k in (number, number + 1)]
        group[find(group, keys[0])] = find(group, keys[1])
    for name, group in groups.items():
        assert len({find(group, key) for key in list(group)}) == 1, name


def test_a_project_of_degate_holds_the_nets(tmp_path, drawing):
    exchange.write_degate(tmp_path / "chip", drawing)
    layers, read = read_degate(tmp_path / "chip")
    assert [layers[k]["description"] for k in range(3)] == ["metal1", "metal2", "metal3"]
    wanted: dict[str, set] = {net.name: set() for net in drawing.extraction.nets}

    def pixel(x, y):
        return round(x / SIDE), round((HEIGHT * SIDE - y) / SIDE)

    for wire in drawing.wires:
        place = *pixel(*wire.start), *pixel(*wire.end)
        wanted[wire.net].add(("wire", int(wire.layer[5:]) - 1, *place))
    for via in drawing.vias:
        for layer, direction in ((int(via.layer[3:]) - 1, "up"), (int(via.layer[3:]), "down")):
            wanted[via.net].add(("via", layer, *pixel(via.x, via.y), direction))
    assert read == wanted


def test_deroute_follows_exactly_the_nets(tmp_path, drawing):
    """From each net's first wire on, Deroute finds all of the net and nothing of another one."""
    assert exchange.write_deroute(tmp_path / "chip.xml", drawing) == 0
    entities = read_deroute(tmp_path / "chip.xml")
    nets = drawing.extraction.nets
    members = {net.name: {k for k, e in enumerate(entities) if e.label == net.name} for net in nets}
    vias = sum(not entity.is_wire for entity in entities)
    assert vias == sum(net.shapes.get(f"via{k}", 0) for net in nets for k in (1, 2)) >= 20
    for name, wanted in members.items():
        assert wanted and follow(entities, min(wanted)) == wanted, name


def test_nets_that_cannot_be_told_apart_in_one_plane_are_counted():
    """Two wires of one pixel cannot leave the same line."""
    wires = np.array([[(0, 5), (20, 5)], [(10, 0), (10, 5)]], float)
    drawn = flat_wires.FlatWires(
        wires, np.array([0, 1]), np.ones(2), np.array([[10.0, 5.0]]), np.array([1]), np.ones(1)
    )
    flat, doubtful = flat_wires.keep_apart(drawn)
    assert doubtful == 1
    np.testing.assert_array_equal(flat.wires, wires)


def test_spice_names_every_net(tmp_path, nets):
    exchange.write_spice(tmp_path / "chip.cir", nets)
    read = kdb.Netlist()
    read.read(str(tmp_path / "chip.cir"), kdb.NetlistSpiceReader())
    (circuit,) = read.each_circuit()
    assert {net.expanded_name() for net in circuit.each_net()} == {n.name for n in nets.nets}


def test_names_for_spice_are_plain_and_differ_without_case():
    names = ["a", "A", "VDD+B", "C$1", "Ä µ net", "a b,c", "A_"]
    assert exchange.spice_names(names) == [
        "a", "A_", "VDD+B", "C$1", "____net", "a_b_c", "A__",
    ]  # fmt: skip


def test_the_command_writes_all_of_them_again_and_again(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 5:75] = 255
    png.write(tmp_path / "metal1.png", mask, (SIDE, SIDE))
    results = [f"--degate={tmp_path / 'chip'}", f"--deroute={tmp_path / 'chip.xml'}",
               f"--spice={tmp_path / 'chip.cir'}"]  # fmt: skip
    for _ in range(2):
        done = cli.call("nets", f"--metal1={tmp_path / 'metal1.png'}", *results,
                        "-o", tmp_path / "chip.l2n")  # fmt: skip
        assert done.returncode == 0, done.stderr
    _, nets = read_degate(tmp_path / "chip")
    assert list(nets) == ["N1"]
    (tmp_path / "chip.cir").write_text("mine")
    message = cli.error_of("nets", f"--metal1={tmp_path / 'metal1.png'}", results[2],
                           "-o", tmp_path / "chip.l2n")  # fmt: skip
    assert "was not written by this program" in message
    assert (tmp_path / "chip.cir").read_text() == "mine"


def test_layouts_without_pixels_are_refused(tmp_path):
    layout = kdb.Layout()
    cell = layout.create_cell("A")
    cell.shapes(layout.layer(1, 0)).insert(kdb.DBox(0, 0, 5, 1))
    layout.write(str(tmp_path / "a.gds"))
    source = LayerSource("metal1", tmp_path / "a.gds")
    found = extraction.extract(stack.read_stack([source]))
    with pytest.raises(UserError, match="name --pixel-size"):
        exchange.drawing_of(found)
    found = extraction.extract(stack.read_stack([source], SIDE))
    exchange.write_degate(tmp_path / "chip", exchange.drawing_of(found))
    _, nets = read_degate(tmp_path / "chip")
    assert {layer for _, layer, *_ in nets["N1"]} == {0}
