"""Time from the start of a process to its first result, and to the first training step.

    python benchmarks/start.py --work=NEW --output=benchmarks/results
    python benchmarks/start.py --work=NEW --output=OUT --former=CHECKOUT

Each case runs in a process of its own: `--help`; a prediction of one drawn photograph of 512x512
pixels with the packaged weights, until the command ends; and a training of `configs/omv.py` on
images of 512x512, until its first step is done. Cold means without compiled programs on disk, warm
that the process before has left its own. With --former, another checkout of the project runs
alternately, and `former` is its time over ours. Medians of the rounds. Writes start.csv, start.txt.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess

from reporting import drawn_data_flags, machine, run_python, write_results
from tabulate import tabulate

OURS = pathlib.Path(__file__).parents[1]

FIRST_STEP = """
import os, sys
from eal_icnet_jax.training.progress import Progress
def stop(self, step):
    os._exit(0)
Progress.restart = stop
from eal_icnet_jax.__main__ import main
main(sys.argv[1:])
"""
"""A training that ends after its first step, where its progress is timed anew."""


def run(source: pathlib.Path, cache: pathlib.Path, *arguments) -> float:
    """Run Python on a checkout. Returns the seconds until the process has ended.

    Args:
      source: the checkout.
      cache: folder for compiled programs.
      *arguments: of Python.
    """
    environment = {**os.environ, "PYTHONPATH": str(source), "XDG_CACHE_HOME": str(cache)}
    options = {"env": environment, "cwd": cache, "stdout": subprocess.DEVNULL}
    return run_python(*arguments, **options)["seconds"]


def prepare(source: pathlib.Path, work: pathlib.Path):
    """Draw what the cases of a checkout read."""
    work.mkdir(parents=True)
    command = "-m", "eal_icnet_jax"
    tree = work / "tree"
    run(source, work, *command, "draw", "dataset", "omv", tree, "--images=20", "--size=512")
    run(source, work, *command, "prepare", "--config=configs/omv.py", *drawn_data_flags(work))
    shutil.copy(min((tree / "image").glob("*")), work / "photograph.png")


def cases(work: pathlib.Path) -> dict[str, list]:
    """Return the arguments of Python for each case."""
    command, out = ["-m", "eal_icnet_jax"], work / "out"
    predict = [*command, "predict", work / "photograph.png", "-o", out]
    workdir = f"--workdir={work / 'run'}"
    return {
        "--help": [*command, "--help"],
        "predict": predict,
        "predict --scale=1": [*predict, "--scale=1"],
        "first training step": ["-c", FIRST_STEP, "train", "--config=configs/omv.py", workdir,
                                *drawn_data_flags(work)],
    }  # fmt: skip


def measure(source: pathlib.Path, work: pathlib.Path, case: str) -> tuple[float, float]:
    """Return the seconds of a case without compiled programs, and with them."""
    shutil.rmtree(work / "cache", ignore_errors=True)
    (work / "cache").mkdir()
    seconds = []
    for _ in range(2):
        for name in ("out", "run"):
            shutil.rmtree(work / name, ignore_errors=True)
        seconds.append(run(source, work / "cache", *cases(work)[case]))
    return seconds[0], seconds[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--work", type=pathlib.Path, required=True, help="new folder for drawn data")
    add("--output", type=pathlib.Path, required=True, help="for the table")
    add("--former", type=pathlib.Path, help="another checkout to compare with")
    add("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    sources = {"ours": OURS, "former": arguments.former and arguments.former.absolute()}
    sources = {name: source for name, source in sources.items() if source}
    work = {name: arguments.work.absolute() / name for name in sources}
    for name, source in sources.items():
        prepare(source, work[name])
    rows = []
    for case in cases(work["ours"]):
        found = {name: [] for name in sources}
        for _ in range(arguments.rounds):
            for name, source in sources.items():
                found[name].append(measure(source, work[name], case))
        for k, state in enumerate(("cold", "warm")):
            medians = {n: statistics.median(pair[k] for pair in found[n]) for n in sources}
            row = {"case": case, "programs": state, "seconds": f"{medians['ours']:.2f}"}
            if "former" in sources:
                ratios = [b[k] / a[k] for a, b in zip(*found.values(), strict=True)]
                row["former_seconds"] = f"{medians['former']:.2f}"
                row["former"] = f"{statistics.median(ratios):.2f}"
            rows.append(row)
            print(*row.values(), flush=True)
    text = f"{machine()}\n\n{tabulate(rows, 'keys', disable_numparse=True)}\n"
    write_results(arguments.output, "start", text, rows)


if __name__ == "__main__":
    main()
