"""Time every other network against its PyTorch original: inference on CPU.

    python benchmarks/baselines.py --originals=DIR --output=benchmarks/results

DIR holds clones of the originals' repositories, as originals.py lists them. Ours and the original
run alternately, in processes of their own and with the same weights. `ratio` is the original's time
over ours, the median of the rounds' ratios. `difference` is the largest difference of the
probabilities.
"""

import argparse
import pathlib
import statistics
import tempfile

import numpy as np
from reporting import comma_separated, machine, write_results
from runtimes import keeping_first_result, randomize_statistics
from tabulate import tabulate

from eal_icnet_jax.comparison import interleaved_timing
from eal_icnet_jax.models.registry import MODELS


def random_image(size: int) -> np.ndarray:
    """Return an image `[1, size, size, 1]`."""
    return np.random.default_rng(0).random((1, size, size, 1), np.float32)


def prepare_ours(name: str, size: int, folder: pathlib.Path):
    """Prepare our network, and write its weights for the original."""
    from flax import nnx

    from eal_icnet_jax import models
    from eal_icnet_jax.inference.predictor import Predictor
    from eal_icnet_jax.models import torch_files, torch_weights
    from eal_icnet_jax.system import jax_settings

    jax_settings.configure()
    model = models.create_model(name, rngs=nnx.Rngs(0))
    weights = randomize_statistics(torch_weights.to_torch(model))
    torch_files.write_state_dict(folder / "weights.safetensors", weights)
    model = torch_weights.from_torch(weights, name)
    model.eval()
    predictor, image = Predictor(model), random_image(size)
    path = folder / "ours.npy"
    return keeping_first_result(lambda: predictor.probabilities(image)[..., 0], path)


def prepare_original(name: str, size: int, folder: pathlib.Path, clones: pathlib.Path):
    """Prepare the original with our weights."""
    import originals
    import torch
    from safetensors.torch import load_file

    model = originals.load(name, clones, load_file(folder / "weights.safetensors"))
    image = torch.tensor(random_image(size)).permute(0, 3, 1, 2)

    def run():
        with torch.inference_mode():
            return torch.sigmoid(model(image)).numpy()[:, 0]

    return keeping_first_result(run, folder / "original.npy")


def start_worker(title: str, prepare, name: str, *arguments) -> interleaved_timing.Worker:
    """Start the process of a network, or end the command with an error."""
    try:
        return interleaved_timing.Worker(prepare, name, *arguments)
    except interleaved_timing.WorkerError as error:
        raise SystemExit(f"error: {name}: {title}: {error}") from error


def measure(name: str, size: int, rounds: int, clones: pathlib.Path) -> dict:
    """Time a network and its original. Returns a row of figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        with (
            start_worker("ours", prepare_ours, name, size, folder) as ours,
            start_worker("the original", prepare_original, name, size, folder, clones) as original,
        ):
            interleaved_timing.interleave([ours, original], rounds)
        results = [np.load(folder / f"{which}.npy") for which in ("ours", "original")]
    low, middle, high = interleaved_timing.ratio(ours, original)
    return {
        "model": name,
        "size": size,
        "milliseconds": 1e3 * statistics.median(ours.seconds),
        "original_milliseconds": 1e3 * statistics.median(original.seconds),
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "peak_mb": ours.last["peak"] / 1e6,
        "original_peak_mb": original.last["peak"] / 1e6,
        "compile_s": max(0.0, ours.first["seconds"] - statistics.median(ours.seconds)),
        "difference": float(abs(results[0] - results[1]).max()),
    }


def table(rows: list[dict]) -> str:
    """Return the rows as aligned text."""
    headings = ("model", "ms", "PyTorch", "ratio", "quartiles", "peak MB", "PyTorch", "compile",
                "difference")  # fmt: skip
    lines = [
        (
            row["model"],
            f"{row['milliseconds']:.0f}",
            f"{row['original_milliseconds']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}",
            f"{row['peak_mb']:.0f}",
            f"{row['original_peak_mb']:.0f}",
            f"{row['compile_s']:.1f}s",
            f"{row['difference']:.0e}",
        )
        for row in rows
    ]
    align = ("left", *["right"] * 8)
    return tabulate(lines, headings, disable_numparse=True, colalign=align)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = [name for name in MODELS if name != "eal_icnet"]  # speed.py times that one
    add("--originals", type=pathlib.Path, required=True, help="folder of clones")
    add("--models", type=comma_separated(str), default=names)
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
