"""Measure seconds and peak memory of EAL-ICNet by the size of the image.

    python benchmarks/size.py --output=benchmarks/results
    python benchmarks/size.py --tasks=training --sizes=256,512,1024

Batch 1, float32, every size in a separate process. Times are medians of nine runs, or of fewer if
they take long (column `runs`). If one run takes over a minute, the time is that of the first run,
compilation included.
"""

import argparse
import pathlib
import statistics
import tempfile

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reporting import comma_separated, machine, write_results
from runtimes import Case, start_worker, write_weights
from tabulate import tabulate

from eal_icnet_jax.comparison.interleaved_timing import WorkerError

TIME_LIMIT = 30
"""Seconds of timed runs after which no further run of a size starts."""


RUNS = 9
"""Number of timed runs of a size, unless they take long."""

LONG_RUN = 60
"""Seconds of the first run after which it is the only one."""

COLOURS = {"inference": "#0072B2", "training": "#E69F00"}


def measure(task: str, size: int) -> dict:
    """Time a task at a size. Returns a row of figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_weights(folder)
        try:
            with start_worker("ours", Case(task, size, 1, "float32"), folder) as worker:
                first = worker.first["seconds"]
                runs = RUNS if first < LONG_RUN else 0
                while len(worker.seconds) < runs and sum(worker.seconds) < TIME_LIMIT:
                    worker.run()
        except WorkerError as error:
            raise SystemExit(f"error: {task} at {size}x{size}: {error}") from error
    return {
        "task": task,
        "size": size,
        "seconds": statistics.median(worker.seconds or [first]),
        "runs": len(worker.seconds),
        "peak_mb": worker.last["peak"] / 1e6,
    }


def table(rows: list[dict]) -> str:
    """Return the rows as aligned text; `growth` is relative to the size before."""
    lines = []
    for before, row in zip([None, *rows], rows, strict=False):
        same_task = before is not None and before["task"] == row["task"]
        growth = f"{row['seconds'] / before['seconds']:.1f}" if same_task else ""
        figures = f"{row['seconds']:.3f}", growth, f"{row['peak_mb']:.0f}", row["runs"]
        lines.append((row["task"], row["size"], *figures))
    headings = ("", "size", "seconds", "growth", "peak MB", "runs")
    align = ("left", *["right"] * 5)
    return tabulate(lines, headings, disable_numparse=True, colalign=align)


def _plot_growth(axis: Axes, rows: list[dict], sizes: list[int]):
    """Draw the time as it would grow with the pixels, and with their square."""
    base = next((row for row in rows if row["task"] == "inference"), rows[0])
    for power, style, label in (
        (2, ":", "proportional to pixels"),
        (4, "--", "proportional to pixels squared"),
    ):
        values = [base["seconds"] * (size / base["size"]) ** power for size in sizes]
        axis.plot(sizes, values, style, color="#999999", lw=1, label=label)


def plot(rows: list[dict], path: pathlib.Path):
    """Draw seconds and peak memory by size."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    sizes = sorted({row["size"] for row in rows})
    panels = (("seconds", "seconds per image"), ("peak_mb", "peak memory, MB"))
    for axis, (key, title) in zip(axes, panels, strict=True):
        for task, colour in COLOURS.items():
            own = {row["size"]: row[key] for row in rows if row["task"] == task}
            if own:
                axis.plot(own.keys(), own.values(), "o-", color=colour, label=task)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.set_xlabel("height and width of the image")
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    _plot_growth(axes[0], rows, sizes)
    axes[0].set_yscale("log")
    axes[1].set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", type=comma_separated(str), default=["inference", "training"])
    add("--sizes", type=comma_separated(int), default=[256, 512, 1024, 2048, 4096])
    add("--largest-training", type=int, default=1024, help="size up to which steps are timed")
    add("--output", type=pathlib.Path, help="folder for size.csv, size.txt and size.png")
    arguments = parser.parse_args()
    rows = []
    for task in arguments.tasks:
        for size in arguments.sizes:
            if task == "inference" or size <= arguments.largest_training:
                rows.append(measure(task, size))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    text = f"{machine()}\n\n{table(rows)}\n"
    print(f"\n{text}")
    if arguments.output:
        write_results(arguments.output, "size", text, rows)
        plot(rows, arguments.output / "size.png")


if __name__ == "__main__":
    main()
