"""Time EAL-ICNet against PyTorch and the runtimes that people export to.

    python benchmarks/speed.py --output=benchmarks/results
    python benchmarks/speed.py --tasks=training --sizes=512 --runtimes=ours,torch,torch_compile

Every runtime runs in a process of its own with the same weights. The processes run alternately, and
each figure is a median over the rounds. `ratio` is the runtime's time over ours: the median of the
rounds' ratios, with their quartiles beside it. Peak memory is that of the process. `compile` is the
time of the first call beyond that of a later one. `start` is the time from the start of the process
to its first result, imports and weights included; `again` is the same in a second process, which
finds the programs that the first one compiled. The peers need
`pip install onnx onnxruntime openvino torch`; one that is missing is reported and left out.
"""

import argparse
import contextlib
import dataclasses
import itertools
import pathlib
import statistics
import sys
import tempfile

import numpy as np
from matplotlib.figure import Figure
from reporting import comma_separated, machine, write_results
from runtimes import EXPORTED, RUNTIMES, Case, can_run, export_onnx, start_worker, write_weights
from tabulate import tabulate

from eal_icnet_jax.comparison import interleaved_timing
from eal_icnet_jax.system.child_process import ChildProcess


def start_workers(
    case: Case, runtimes: list[str], folder: pathlib.Path, stack: contextlib.ExitStack
) -> dict[str, interleaved_timing.Worker]:
    """Start the runtimes that support a case, and report those that cannot be started."""
    chosen = [runtime for runtime in runtimes if can_run(runtime, case)]
    if set(chosen) & set(EXPORTED):
        try:
            with ChildProcess(silent=True) as child:
                child.call(export_onnx, case, folder)
        except Exception as error:
            print(f"{case}: the export to ONNX failed, {error}", flush=True)
    workers = {}
    for runtime in chosen:
        try:
            workers[runtime] = stack.enter_context(start_worker(runtime, case, folder))
        except interleaved_timing.WorkerError as error:
            print(f"{case}: {runtime} is left out, {error}", flush=True)
    return workers


def figures(worker: interleaved_timing.Worker, ours: interleaved_timing.Worker) -> dict:
    """Return the figures of a worker after all rounds."""
    median = statistics.median(worker.seconds)
    low, middle, high = interleaved_timing.ratio(ours, worker)
    return {
        "milliseconds": 1e3 * median,
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "peak_mb": worker.last["peak"] / 1e6,
        "compile_s": max(0.0, worker.first["seconds"] - median),
        "start_s": worker.first["age"],
    }


def seconds_of_second_start(runtime: str, case: Case, folder: pathlib.Path) -> float:
    """Return the time to the first result in a process that finds compiled programs."""
    try:
        with start_worker(runtime, case, folder) as worker:
            return worker.first["age"]
    except interleaved_timing.WorkerError:
        return float("nan")


def measure(case: Case, runtimes: list[str], rounds: int) -> list[dict]:
    """Time a case on the runtimes that support it. Returns a row for each."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_weights(folder)
        with contextlib.ExitStack() as stack:
            workers = start_workers(case, runtimes, folder, stack)
            interleaved_timing.interleave(workers.values(), rounds)
            reference = None
            for runtime, worker in workers.items():
                row = {**dataclasses.asdict(case), "runtime": runtime}
                row |= figures(worker, workers.get("ours", worker))
                row["difference"] = ""
                result = folder / f"{runtime}.npy"
                if result.exists():
                    array = np.load(result)
                    reference = array if reference is None else reference
                    row["difference"] = float(abs(array - reference).max())
                rows.append(row)
        for row in rows:
            row["again_s"] = seconds_of_second_start(row["runtime"], case, folder)
    return rows


def case_of(row: dict) -> Case:
    """Return the case of a row."""
    return Case(*(row[field.name] for field in dataclasses.fields(Case)))


def table(rows: list[dict]) -> str:
    """Return the rows as aligned text."""
    headings = ("case", "runtime", "ms", "ratio", "quartiles", "peak MB", "compile", "start",
                "again", "difference")  # fmt: skip
    lines = [
        (
            case_of(row),
            row["runtime"],
            f"{row['milliseconds']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}",
            f"{row['peak_mb']:.0f}",
            f"{row['compile_s']:.1f}s",
            f"{row['start_s']:.1f}s",
            f"{row['again_s']:.1f}s",
            "" if row["difference"] == "" else f"{row['difference']:.0e}",
        )
        for row in rows
    ]
    align = ("left", "left", *["right"] * 8)
    return tabulate(lines, headings, disable_numparse=True, colalign=align)


def plot(rows: list[dict], path: pathlib.Path):
    """Draw a bar for each runtime, in milliseconds, and a panel for each case."""
    cases = list(dict.fromkeys(map(case_of, rows)))
    figure = Figure(figsize=(3.2 * len(cases) + 1.5, 3.6), layout="constrained")
    axes = figure.subplots(1, len(cases), squeeze=False)[0]
    for axis, case in zip(axes, cases, strict=True):
        own = [row for row in rows if case_of(row) == case]
        names = [row["runtime"] for row in own]
        colours = ["#0072B2" if name == "ours" else "#999999" for name in names]
        bars = axis.barh(names, [row["milliseconds"] for row in own], color=colours)
        axis.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.18)
        title = f"{case.task}, {case.size}x{case.size}\nbatch {case.batch}, {case.dtype}"
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("milliseconds", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", type=comma_separated(str), default=["inference", "training"])
    add("--sizes", type=comma_separated(int), default=[512])
    add("--batches", type=comma_separated(int), default=[1])
    add("--dtypes", type=comma_separated(str), default=["float32"])
    add("--runtimes", type=comma_separated(str), default=list(RUNTIMES))
    add("--rounds", type=int, default=9)
    add("--output", type=pathlib.Path, help="folder for speed.csv, speed.txt and speed.png")
    arguments = parser.parse_args()
    rows = []
    for settings in itertools.product(
        arguments.tasks, arguments.sizes, arguments.batches, arguments.dtypes
    ):
        rows += measure(Case(*settings), arguments.runtimes, arguments.rounds)
    text = f"{machine()}\npython benchmarks/speed.py {' '.join(sys.argv[1:])}\n\n{table(rows)}\n"
    print(text)
    if arguments.output:
        write_results(arguments.output, "speed", text, rows)
        plot(rows, arguments.output / "speed.png")


if __name__ == "__main__":
    main()
