"""How EAL-ICNet's cost grows with the image: seconds and peak memory by size.

    python benchmarks/size.py --output=benchmarks/results
    python benchmarks/size.py --what=training --sizes=256,512,1024

Batch 1, float32, every size in a process of its own. A figure is the median of nine runs, of fewer
where they take long (`runs`); where one takes over a minute it is the first, compilation and all.
"""

import argparse
import pathlib
import statistics
import tempfile

from speed import Case, listed, machine, worker_of, write_results, write_weights

PATIENCE = 30
"""Seconds after which a size's further runs are spared."""


def measure(what: str, size: int) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_weights(folder)
        worker = worker_of("ours", Case(what, size, 1, "float32"), folder)
        if "error" in worker.first:
            raise SystemExit(f"error: {what} at {size}x{size}: {worker.first['error']}")
        first = worker.first["seconds"]
        while first < 60 and len(worker.seconds) < 9 and sum(worker.seconds) < PATIENCE:
            worker.run()
        worker.end()
        return {
            "what": what,
            "size": size,
            "seconds": statistics.median(worker.seconds or [first]),
            "runs": len(worker.seconds),
            "peak_mb": worker.last["peak"] / 1e6,
        }


def table(rows: list[dict]) -> str:
    lines = [f"{'':10s} {'size':>5s} {'seconds':>8s} {'x last':>7s} {'peak MB':>8s} {'runs':>5s}"]
    last = None
    for row in rows:
        same = last is not None and last["what"] == row["what"]
        growth = f"{row['seconds'] / last['seconds']:7.1f}" if same else " " * 7
        lines.append(
            f"{row['what']:10s} {row['size']:5d} {row['seconds']:8.3f} {growth} "
            f"{row['peak_mb']:8.0f} {row['runs']:5d}"
        )
        last = row
    return "\n".join(lines)


def plot(rows: list[dict], path: pathlib.Path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
    for axis, key, label in zip(
        axes, ("seconds", "peak_mb"), ("seconds per image", "peak memory, MB"), strict=True
    ):
        for what, colour in (("inference", "#0072B2"), ("training", "#E69F00")):
            own = [row for row in rows if row["what"] == what]
            if not own:
                continue
            sizes, values = ([row[k] for row in own] for k in ("size", key))
            axis.plot(sizes, values, "o-", color=colour, label=what)
        if key == "seconds":
            base = next(row for row in rows if row["what"] == "inference")
            for power, style, told in ((2, ":", "as the pixels"), (4, "--", "as their square")):
                values = [
                    base["seconds"] * (size / base["size"]) ** power for size in sizes_of(rows)
                ]
                axis.plot(sizes_of(rows), values, style, color="#999999", lw=1, label=told)
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes_of(rows), [str(size) for size in sizes_of(rows)])
        axis.set_xlabel("height and width of the image")
        axis.set_title(label, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def sizes_of(rows: list[dict]) -> list[int]:
    return sorted({row["size"] for row in rows})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--what", type=listed(str), default=["inference", "training"])
    add("--sizes", type=listed(int), default=[256, 512, 1024, 2048, 4096])
    add("--largest-training", type=int, default=1024, help="size up to which steps are timed")
    add("--output", type=pathlib.Path, help="folder for size.csv, size.txt and size.png")
    arguments = parser.parse_args()
    rows = []
    for what in arguments.what:
        for size in arguments.sizes:
            if what == "inference" or size <= arguments.largest_training:
                rows.append(measure(what, size))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    text = f"{machine()}\n\n{table(rows)}\n"
    print(f"\n{text}")
    if arguments.output:
        write_results(arguments.output, "size", text, rows)
        plot(rows, arguments.output / "size.png")


if __name__ == "__main__":
    main()
