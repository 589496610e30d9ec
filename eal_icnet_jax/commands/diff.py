"""Compare a found layer with a golden one: where metal and vias differ, and which nets it changes.

    eal-icnet diff golden.gds found.gds -o report --pixel-size=0.05

Either is a GDSII or OASIS file with metal on layer 1/0 and vias on 2/0, or a mask of metal. The
second is first brought over the first: it may be shifted, turned, mirrored and a little scaled.
Writes a table, markers for KLayout and pictures. Needs the extra `labels`: pip install
'eal-icnet-jax[labels]'.
"""

import argparse
import pathlib

from eal_icnet_jax.system.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet diff`."""
    add = parser.add_argument
    add("golden", type=pathlib.Path, metavar="GOLDEN", help="layout or mask of the reference")
    add("found", type=pathlib.Path, metavar="FOUND", help="layout or mask to compare with it")
    add("-o", "--output", type=pathlib.Path, required=True, metavar="DIR", help="for the report")
    add("--golden-via", type=pathlib.Path, metavar="MASK",
        help="mask of the vias, if GOLDEN is a mask")  # fmt: skip
    add("--found-via", type=pathlib.Path, metavar="MASK",
        help="mask of the vias, if FOUND is a mask")  # fmt: skip
    add("--pixel-size", type=float, metavar="MICROMETRES",
        help="side of a pixel of the comparison (default: as a mask states it)")  # fmt: skip
    add("--tolerance", type=float, default=1.5, metavar="PIXELS",
        help="distance by which edges may differ (1.5)")  # fmt: skip
    add("--force", action="store_true", help="replace files that another program wrote")


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet diff`."""
    from eal_icnet_jax.netlist import golden, golden_report
    from eal_icnet_jax.netlist.registration import register
    from eal_icnet_jax.system.terminal import warn
    from eal_icnet_jax.vector.layout_options import check_pixel_size, is_layout

    check_pixel_size(arguments.pixel_size)
    if not 0 < arguments.tolerance < 100:
        raise UserError(f"--tolerance is {arguments.tolerance:g}: name 0 to 100 pixels")
    sides = {"golden": (arguments.golden, arguments.golden_via),
             "found": (arguments.found, arguments.found_via)}  # fmt: skip
    size = arguments.pixel_size
    for name, (path, via) in sides.items():
        if via is not None and is_layout(path):
            raise UserError(f"--{name}-via is for masks, and {path} is a layout: remove it")
        if size is None and not is_layout(path):
            size = golden.stated_pixel_size(path)
    if size is None:
        raise UserError(
            "neither file states a size of pixels: name --pixel-size, such as a tenth of the "
            "narrowest wire in micrometres"
        )
    golden_report.check_folder(arguments.output, arguments.force)
    first, second = (golden.read_side(path, via, size) for path, via in sides.values())
    for note in (*first.notes, *second.notes):
        warn(note)
    registration = register(first.masks["metal"], second.masks["metal"])
    if registration.mirrored or registration.turns:
        # It is reversed first and then turned to the left, so it lies turned to the right.
        turned = f"turned by {90 * registration.turns} degrees to the right"
        how = [word for word, holds in (("mirrored", registration.mirrored),
                                        (turned, registration.turns)) if holds]  # fmt: skip
        warn(f"{arguments.found} lies {' and '.join(how)}, and is brought upright")
    print(f"{100 * registration.agreement:.2f}% of the metal is in both")
    overlay = golden.laid_over(first, second, registration)
    for note in golden.not_compared(first, second, registration, overlay):
        warn(note)
    found = golden.find_differences(first, overlay, arguments.tolerance)
    golden_report.write_report(arguments.output, first, overlay, found)
    on_nets = sum(bool(difference.effects) for difference in found)
    vias = sum(difference.kind.endswith("via") for difference in found)
    print(f"{len(found)} differences, {on_nets} of them change nets, {vias} are vias: "
          f"{arguments.output / 'differences.csv'}")  # fmt: skip
