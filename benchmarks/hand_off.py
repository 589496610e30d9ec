"""Nets as Degate and Deroute read them: the programs' own code on what `eal-icnet nets` writes.

    python benchmarks/hand_off.py --work=WORK [--degate=CHECKOUT] [--deroute=CHECKOUT]

Builds the readers in benchmarks/hand_off against checkouts of
https://github.com/DegateCommunity/Degate and https://github.com/emu-russia/Deroute. That needs
g++, Qt 6 and Boost, or mono (mcs) and Xvfb:
apt-get install g++ qt6-base-dev libboost-filesystem-dev libboost-thread-dev mono-mcs \
libmono-system-windows-forms4.0-cil xvfb. Draws a stack of three metals, extracts its nets, and says
whether Degate reads each wire and via as it was written, and whether Deroute, which follows wires
by their places, finds exactly the nets. Exits with 1 where one does not.
"""

import argparse
import collections
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from reporting import run_command
from stack import drawn_stack, masks_of

READERS = pathlib.Path(__file__).parent / "hand_off"

GUI = "Preferences/PreferencesHandler", "Preferences/ThemeManager", "Workspace/WorkspaceNotifier"
"""Parts of Degate's src/GUI that its src/Core needs."""

QT = "/usr/include/x86_64-linux-gnu/qt6"

QT_PARTS = "Core", "Widgets", "Gui", "Xml", "OpenGL", "OpenGLWidgets", "Concurrent"


def build_degate(checkout: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """Build the reader with Degate's core, which takes some minutes."""
    source = checkout / "src"
    objects = work / "degate"
    objects.mkdir(parents=True, exist_ok=True)
    compiler = ["g++", "-std=c++17", "-fPIC", "-w", f"-I{source}", f"-I{QT}"]
    compiler += [f"-I{QT}/Qt{part}" for part in QT_PARTS]
    files = [*source.glob("Core/**/*.cc"), *(source / "GUI" / f"{name}.cc" for name in GUI)]
    for header in source.glob("**/*.h"):
        if header.with_suffix(".cc") in files and "Q_OBJECT" in header.read_text(errors="replace"):
            files.append(objects / f"moc_{header.stem}.cc")
            subprocess.run(["/usr/lib/qt6/libexec/moc", header, "-o", files[-1]], check=True)
    built = []
    for file in [*files, READERS / "degate_reader.cc"]:
        name = file.relative_to(source) if source in file.parents else file.name
        built.append(objects / (str(name).replace("/", "_") + ".o"))
        if not built[-1].exists():
            command = [*compiler, f"-I{file.parent}", "-c", file, "-o", built[-1]]
            subprocess.run(command, check=True)
    program = work / "degate_reader"
    libraries = [f"-lQt6{part}" for part in ("Widgets", "Gui", "Core", "Xml", "Concurrent")]
    libraries += ["-lboost_filesystem", "-lboost_thread", "-lpthread"]
    subprocess.run(["g++", *built, *libraries, "-o", program], check=True)
    return program


def build_deroute(checkout: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """Build the reader with Deroute's EntityBox."""
    compiler = ["mcs", "-unsafe", "-warn:0"]
    parts = "Windows.Forms", "Drawing", "Xml", "Data", "Core"
    compiler += [f"-r:System.{part}" for part in parts]
    library, program = work / "EntityBox.dll", work / "deroute_reader.exe"
    files = [*(checkout / "EntityBox").glob("**/*.cs")]
    subprocess.run([*compiler, "-target:library", f"-out:{library}", *files], check=True)
    reader = READERS / "deroute_reader.cs"
    subprocess.run([*compiler, f"-r:{library}", f"-out:{program}", reader], check=True)
    return program


def read_by_degate(program: pathlib.Path, project: pathlib.Path) -> bool:
    """Say what Degate reads of a project, and whether that is what the project holds."""
    copy = program.parent / "opened"  # Degate may write into what it opens
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(project, copy)
    done = subprocess.run([program, copy / "project.xml"], capture_output=True, text=True)
    if done.returncode:
        print(f"Degate: ended with {done.returncode}: {done.stderr[-500:]}")
        return False
    lines = [line.split() for line in done.stdout.splitlines()]
    read = [tuple(line) for line in lines if line and line[0] in ("wire", "via")]
    model = ElementTree.parse(project / "lmodel.xml").getroot()
    net_of = {link.get("object-id"): net.get("id") for net in model.iterfind("nets/net")
              for link in net.iterfind("connection")}  # fmt: skip
    written = [
        (item.tag, *(item.get(name) for name in ("layer", *places, "name")), net_of[item.get("id")])
        for path, places in (("wires/wire", ("from-x", "from-y", "to-x", "to-y")),
                             ("vias/via", ("x", "y", "direction")))
        for item in model.iterfind(path)
    ]  # fmt: skip
    layers = [line[2] for line in lines if line and line[0] == "layer"]
    same = collections.Counter(read) == collections.Counter(written)
    nets = len({item[-1] for item in read})
    print(f"Degate: layers {', '.join(layers)}; {len(read):,} of {len(written):,} wires and vias "
          f"in {nets:,} nets, {'the same' if same else 'others'}")  # fmt: skip
    return same


def followed_by_deroute(program: pathlib.Path, file: pathlib.Path, nets: int) -> bool:
    """Say which nets Deroute finds, and whether they are those that were written."""
    done = subprocess.run(["xvfb-run", "-a", "mono", program, file], capture_output=True,
                          text=True, check=True)  # fmt: skip
    found = [tuple(map(int, line.split()[1:])) for line in done.stdout.splitlines()]
    whole = sum(own == all_ for own, all_, _ in found)
    joined = sum(others > 0 for *_, others in found)
    print(f"Deroute: {len(found):,} of {nets:,} nets, {whole:,} of them whole, {joined:,} with "
          f"wires of others")  # fmt: skip
    return len(found) == whole == nets and not joined


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--degate", type=pathlib.Path, metavar="CHECKOUT")
    parser.add_argument("--deroute", type=pathlib.Path, metavar="CHECKOUT")
    parser.add_argument("--size", type=int, default=2048)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    masks = masks_of(drawn_stack(work, arguments.size))
    output = work / "chip.l2n"
    run_command("nets", *(f"--{name}={path}" for name, path in masks.items()), "-o", output,
                f"--degate={work / 'chip'}", f"--deroute={work / 'chip.xml'}")  # fmt: skip
    nets = len(output.with_suffix(".csv").read_text().splitlines()) - 1
    right = True
    if arguments.degate:
        program = build_degate(arguments.degate.resolve(), work)
        right &= read_by_degate(program, work / "chip")
    if arguments.deroute:
        program = build_deroute(arguments.deroute.resolve(), work)
        right &= followed_by_deroute(program, work / "chip.xml", nets)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
