"""Parts that the benchmark scripts share: the machine's description, options and result files."""

import argparse
import csv
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata

from eal_icnet_jax.system import workers

PACKAGES = ("jax", "flax", "torch", "onnxruntime", "openvino")


def training_parser(doc: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark that trains with several seeds.

    Args:
      doc: of the script, whose first line describes it.
    """
    parser = argparse.ArgumentParser(description=doc.split("\n", 1)[0])
    add = parser.add_argument
    add("--work", type=pathlib.Path, required=True, help="for the trainings, which are kept")
    add("--output", type=pathlib.Path, required=True, help="for the table")
    add("--seeds", type=int, default=3)
    return parser


def add_photographs(parser: argparse.ArgumentParser):
    """Add the options that name labelled photographs, in the form of real.py."""
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", default="", help="names of sets (all)")


def run_command(*arguments) -> dict:
    """Run an `eal-icnet` command. Returns its seconds, and its peak memory in MB."""
    return run_python("-m", "eal_icnet_jax", *arguments)


_STARTER = """
import json, os, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.call([sys.executable, *sys.argv[2:]])
seconds = time.perf_counter() - start
peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
os.write(int(sys.argv[1]), json.dumps({"seconds": seconds, "peak_mb": peak / 1e6}).encode())
sys.exit(status)
"""
"""A small process that starts the measured one: the peak that Linux gives for a process is at least
the memory of the one that started it, and a benchmark may hold more than what it measures."""


def run_python(*arguments, **options) -> dict:
    """Run Python in a process of its own. Returns its seconds, and its peak memory in MB.

    Args:
      *arguments: of Python.
      **options: of `subprocess.run`.
    """
    reading, writing = os.pipe()
    arguments = tuple(map(str, arguments))
    with open(reading, "rb") as figures:
        try:
            starter = [sys.executable, "-I", "-c", _STARTER, str(writing), *arguments]
            process = subprocess.run(starter, pass_fds=[writing], **options)
        finally:
            os.close(writing)
        if process.returncode:
            raise SystemExit(f"error: {arguments} ended with status {process.returncode}")
        return json.loads(figures.read())


def drawn_data_flags(work: pathlib.Path) -> list[str]:
    """Return the flags of a training on the dataset that is drawn into WORK/tree."""
    return [f"--config.dataset.manual_dir={work / 'tree'}",
            f"--config.dataset.data_dir={work / 'data'}"]  # fmt: skip


def _vector_extension() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return ""
    text = cpuinfo.read_text()
    return " with " + ("AVX-512" if "avx512f" in text else "AVX2" if "avx2" in text else "SSE")


def machine() -> str:
    """Return the machine and the package versions on which the figures were taken."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    cores = f"{workers.available_cores()} cores of {platform.machine()}{_vector_extension()}"
    return ", ".join([cores, f"Python {platform.python_version()}", *versions])


def comma_separated(kind: Callable) -> Callable[[str], list]:
    """Return the `type` of an option that takes values separated by commas."""
    return lambda text: [kind(part) for part in text.split(",")]


def add_numbers(parser: argparse.ArgumentParser, option: str, count: int, text: str):
    """Add an option that chooses some of the things 0 to `count` - 1, by default all of them.

    Args:
      parser: gets the option.
      option: its name, such as `--labels`.
      count: number of the things.
      text: of the help.
    """

    def chosen(value: str) -> list[int]:
        numbers = sorted(set(map(int, value.split(","))))
        if not set(numbers) <= set(range(count)):
            raise argparse.ArgumentTypeError(f"{value}: name numbers from 0 to {count - 1}")
        return numbers

    parser.add_argument(option, type=chosen, default=list(range(count)), help=text)


def write_results(folder: pathlib.Path, name: str, text: str, rows: list[dict]):
    """Write the printed table as NAME.txt and the rows as NAME.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(text)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_table(
    folder: pathlib.Path, name: str, headings: Sequence[str], rows: Iterable[tuple], text: str
):
    """Write rows as NAME.csv, and what is shown of them as NAME.md."""
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(headings)
        writer.writerows(rows)
    (folder / f"{name}.md").write_text(text + "\n")
