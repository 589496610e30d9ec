"""Times every network here against its PyTorch original: inference on CPU.

    python benchmarks/baselines.py --originals=DIR --output=benchmarks/results

DIR holds clones of the originals' repositories, as originals.py says. Ours and the original run in
processes of their own with the same weights, and take turns; a ratio is the median of the rounds'
own ratios, the original's time by ours, and `differs` what the probabilities differ by at
most.
"""

import argparse
import pathlib
import statistics
import tempfile

import numpy as np
from speed import keeping_result, listed, lively, machine, write_results

from eal_icnet_jax import models, turns


def image_of(size: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, size, size, 1), np.float32)


def ours(name: str, size: int, folder: pathlib.Path):
    from flax import nnx

    from eal_icnet_jax import convert, runtime
    from eal_icnet_jax.predictor import Predictor

    runtime.configure()
    weights = lively(convert.to_torch(models.create_model(name, rngs=nnx.Rngs(0))))
    convert.write_state_dict(folder / "weights.safetensors", weights)
    model = convert.from_torch(weights, name)
    model.eval()
    predictor, image = Predictor(model), image_of(size)
    return keeping_result(lambda: predictor.probabilities(image)[..., 0], folder / "ours.npy")


def original(name: str, size: int, folder: pathlib.Path, clones: pathlib.Path):
    import originals
    import torch
    from safetensors.torch import load_file

    model = originals.load(name, clones, load_file(folder / "weights.safetensors"))
    image = torch.tensor(image_of(size)).permute(0, 3, 1, 2)

    def run():
        with torch.inference_mode():
            return torch.sigmoid(model(image)).numpy()[:, 0]

    return keeping_result(run, folder / "original.npy")


def measure(name: str, size: int, rounds: int, clones: pathlib.Path) -> dict:
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        one = turns.Worker(ours, name, size, folder)
        other = turns.Worker(original, name, size, folder, clones)
        for who, worker in (("ours", one), ("the original", other)):
            if "error" in worker.first:
                raise SystemExit(f"error: {name}: {who}: {worker.first['error']}")
        turns.take_turns([one, other], rounds)
        results = [np.load(folder / f"{who}.npy") for who in ("ours", "original")]
        low, middle, high = turns.ratio(one, other)
        row = {
            "model": name,
            "size": size,
            "milliseconds": 1e3 * statistics.median(one.seconds),
            "original_milliseconds": 1e3 * statistics.median(other.seconds),
            "ratio": middle,
            "ratio_low": low,
            "ratio_high": high,
            "peak_mb": one.last["peak"] / 1e6,
            "original_peak_mb": other.last["peak"] / 1e6,
            "compile_s": max(0.0, one.first["seconds"] - statistics.median(one.seconds)),
            "differs": float(abs(results[0] - results[1]).max()),
        }
        one.end()
        other.end()
        return row


def table(rows: list[dict]) -> str:
    head = (
        f"{'model':13s} {'ms':>7s} {'PyTorch':>8s} {'by ours':>8s} {'quartiles':>12s} "
        f"{'peak MB':>8s} {'PyTorch':>8s} {'compile':>8s} {'differs':>8s}"
    )
    return "\n".join(
        [head]
        + [
            f"{row['model']:13s} {row['milliseconds']:7.0f} {row['original_milliseconds']:8.0f} "
            f"{row['ratio']:8.2f} {row['ratio_low']:6.2f}-{row['ratio_high']:<5.2f} "
            f"{row['peak_mb']:8.0f} {row['original_peak_mb']:8.0f} {row['compile_s']:7.1f}s "
            f"{row['differs']:8.0e}"
            for row in rows
        ]
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = [name for name in models.MODELS if name != "eal_icnet"]  # speed.py times that one
    add("--originals", type=pathlib.Path, required=True, help="folder of clones")
    add("--models", type=listed(str), default=names)
    add("--size", type=int, default=512)
    add("--rounds", type=int, default=7)
    add("--output", type=pathlib.Path, help="folder for baselines.csv and baselines.txt")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        rows.append(measure(name, arguments.size, arguments.rounds, arguments.originals.absolute()))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    text = f"{machine()}\n{arguments.size}x{arguments.size}, float32\n\n{table(rows)}\n"
    print(f"\n{text}")
    if arguments.output:
        write_results(arguments.output, "baselines", text, rows)


if __name__ == "__main__":
    main()
