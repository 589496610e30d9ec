"""Extract the nets of a stack of layers, from masks or layouts.

    eal-icnet nets --metal1=m1.png --via1=v1.png --metal2=m2.png -o chip.l2n

Via 1 connects metal 1 to metal 2, and so on, for any number of layers. A layer is a mask, or a
layout from which metal is read on layer 1/0 and vias on 2/0; chip.gds@31/0 names another layer.
Writes chip.l2n for KLayout, chip.csv with a line for each net, and chip.gds with the name of each
net as a text; on request also a project of Degate, the XML of Deroute, and SPICE. Needs the extra
`labels`: pip install 'eal-icnet-jax[labels]'.
"""

import argparse
import pathlib

from eal_icnet_jax.system.errors import UserError

MOST_METALS = 16
"""Largest number of metal layers."""

SHOWN = 3
"""Number of metal layers whose options `--help` shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet nets`."""
    for number in range(1, MOST_METALS + 1):
        for kind in ("metal", "via"):
            text = f"mask or layout of metal {number}"
            if kind == "via":
                text = f"mask or layout of the vias between metal {number} and {number + 1}"
            parser.add_argument(
                f"--{kind}{number}",
                metavar="FILE",
                help=text if number <= SHOWN else argparse.SUPPRESS,
            )
    add = parser.add_argument
    add("-o", "--output", type=pathlib.Path, required=True, metavar="FILE.l2n",
        help="for the nets")  # fmt: skip
    add("--labels", type=pathlib.Path, metavar="CSV",
        help="names of nets: lines of name,layer,x,y, in micrometres as in the layout")  # fmt: skip
    add("--degate", type=pathlib.Path, metavar="DIR", help="also write a project of Degate")
    add("--deroute", type=pathlib.Path, metavar="XML", help="also write wires and vias for Deroute")
    add("--spice", type=pathlib.Path, metavar="FILE",
        help="also write a circuit whose pins are the nets")  # fmt: skip
    add("--pixel-size", type=float, metavar="MICROMETRES",
        help="side of a mask's pixel (default: as its file states it)")  # fmt: skip
    add("--force", action="store_true", help="replace files that another program wrote")


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet nets`."""
    from eal_icnet_jax.netlist import exchange, extraction, net_files, stack
    from eal_icnet_jax.system.files import check_parent
    from eal_icnet_jax.system.terminal import warn
    from eal_icnet_jax.vector.layout_options import check_pixel_size

    output = arguments.output
    if output.suffix.lower() != ".l2n":
        raise UserError(f"{output} is no .l2n file: let it end in .l2n")
    check_parent(output)
    check_pixel_size(arguments.pixel_size)
    net_files.check_outputs(output, arguments.force)
    others = arguments.deroute, arguments.spice
    exchange.check_outputs(arguments.degate, [*others], arguments.force)
    sources = [
        stack.source_of(name, text)
        for number in range(1, MOST_METALS + 1)
        for name in (f"metal{number}", f"via{number}")
        if (text := getattr(arguments, name)) is not None
    ]
    results = [*net_files.paths_beside(output), *(path for path in others if path is not None)]
    inputs = [source.path for source in sources]
    inputs += [arguments.labels] if arguments.labels else []
    taken = {path.resolve() for path in inputs}
    for path in results:
        if path.resolve() in taken:
            raise UserError(f"{path} would be replaced by a result: name another one")
        taken.add(path.resolve())
    labels = extraction.read_net_labels(arguments.labels) if arguments.labels else []
    found = extraction.extract(stack.read_stack(sources, arguments.pixel_size), labels)
    draws = arguments.degate or arguments.deroute
    drawing = exchange.drawing_of(found) if draws else None  # fails before anything is written
    paths = net_files.write_nets(output, found)
    notes = [*found.stack.notes, *found.notes]
    if arguments.degate:
        exchange.write_degate(arguments.degate, drawing)
    if arguments.deroute and (doubtful := exchange.write_deroute(arguments.deroute, drawing)):
        notes.append(
            f"in {arguments.deroute}, wires and vias of different nets are too close to each "
            f"other at {doubtful:,} places: Deroute, which has no layers, joins them"
        )
    if arguments.spice and (changed := exchange.write_spice(arguments.spice, found)):
        notes.append(
            f"in {arguments.spice}, {changed:,} nets have another name, because SPICE knows no "
            "case and few signs"
        )
    paths += [path for path in (arguments.degate, *others) if path]
    for note in notes:
        warn(note)
    joined = sum(len(net.shapes) > 1 for net in found.nets)
    print(f"{len(found.nets):,} nets, {joined:,} of them on several layers, in "
          f"{', '.join(map(str, paths))}")  # fmt: skip
