"""Files of nets: KLayout's .l2n, a table, and a layout with a text at each net."""

import csv
import io
import pathlib

from eal_icnet_jax.netlist.extraction import Extraction
from eal_icnet_jax.netlist.stack import number_of
from eal_icnet_jax.system.files import (
    MADE_BY,
    atomic_file,
    check_report_replaceable,
    write_atomically,
)
from eal_icnet_jax.vector.layout_reader import kdb

COLUMNS = ("net", "layers", "shapes", "left", "bottom", "right", "top", "length", "area")
"""Columns of the table. All but the first three are micrometres, of the area square micrometres."""

ENDINGS = (".l2n", ".csv", ".gds")
"""Endings of the files that `write_nets` writes."""


def paths_beside(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the paths of the files that `write_nets` writes, the .l2n file first."""
    return [path.with_suffix(ending) for ending in ENDINGS]


def check_outputs(path: pathlib.Path, force: bool = False):
    """Raise a `UserError` if another program wrote one of the files."""
    check_report_replaceable(path.parent, [p.name for p in paths_beside(path)], force)


def write_nets(path: pathlib.Path, extraction: Extraction) -> list[pathlib.Path]:
    """Write nets, each file completely or not at all, and return the paths.

    Args:
      path: of the .l2n file. The others lie beside it, with the endings .csv and .gds.
      extraction: the nets.
    """
    paths = paths_beside(path)
    database, table, layout = paths
    with atomic_file(database) as partial:
        extraction.database.write_l2n(str(partial))
        with partial.open("ab") as file:
            file.write(b"\n# " + MADE_BY + b"\n")  # a comment, by which the file is known again
    write_atomically(table, net_table(extraction))
    _write_layout(layout, extraction)
    return paths


def net_table(extraction: Extraction) -> str:
    """Return the nets as CSV, with the columns `COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for net in extraction.nets:
        figures = (*net.box, net.length, net.area)
        writer.writerow((
            net.name, " ".join(net.shapes), sum(net.shapes.values()),
            *(f"{value:.10g}" for value in figures),
        ))  # fmt: skip
    return text.getvalue()


def _write_layout(path: pathlib.Path, extraction: Extraction):
    """Write the layers as GDSII, with the name of each net as a text on its lowest metal."""
    stack = extraction.stack
    layout = kdb.Layout()
    layout.dbu = stack.layout.dbu
    cell = layout.create_cell("CHIP")
    for name in stack.names:
        cell.shapes(layout.layer(*number_of(name), name)).insert(stack.region(name))
    for net in extraction.nets:
        layer, x, y = net.place
        text = kdb.DText(net.name, kdb.DTrans(x, y))
        cell.shapes(layout.layer(*number_of(layer), layer)).insert(text)
    options = kdb.SaveLayoutOptions()
    options.format = "GDS2"
    options.gds2_libname = MADE_BY.decode()
    options.gds2_write_timestamps = False  # equal nets give equal files
    with atomic_file(path) as partial:
        layout.write(str(partial), options)
