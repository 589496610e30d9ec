"""Compare EAL-ICNet's operations and memory traffic per image with the machine's peak rates.

    python benchmarks/roofline.py --output=benchmarks/results

PyTorch counts the operations on the network of `torch_eal_icnet.py`; a product and a sum are two.
Bytes are XLA's estimate of the compiled program's memory traffic, without caches. The machine's
rates are those of a 2048x2048 float32 matrix product and of a copy of 256 MB, both by XLA and
measured between the timed runs.
"""

import argparse
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from reporting import machine
from tabulate import tabulate

from eal_icnet_jax import models
from eal_icnet_jax.layers import fold_batch_norms
from eal_icnet_jax.system import jax_settings


def operations(size: int, training: bool) -> float:
    """Count the operations of convolutions and matrix products; all others are few.

    Args:
      size: height and width of the image.
      training: whether the backward pass is included.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from torch_eal_icnet import EALICNet

    model = EALICNet().train(training)
    counter = FlopCounterMode(display=False)
    with counter, torch.set_grad_enabled(training):
        out = model(torch.zeros(1, 1, size, size))
        if training:
            out.sum().backward()
    return counter.get_total_flops()


def cases(size: int):
    """Yield name, operations, jitted function and arguments of each task.

    Args:
      size: height and width of the image.
    """
    image = jnp.asarray(np.random.default_rng(0).random((1, size, size, 1), np.float32))
    model = models.create_model("eal_icnet", rngs=nnx.Rngs(0))
    model.eval()
    graphdef, state = nnx.split(fold_batch_norms(model))
    infer = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
    yield "inference", operations(size, False), infer, (state, image)
    model.train()
    graph, params, others = nnx.split(model, nnx.Param, ...)

    def loss(params, x):
        return jnp.square(nnx.merge(graph, params, others, copy=True)(x)).mean()

    yield "gradient", operations(size, True), jax.jit(jax.grad(loss)), (params, image)


def seconds(function, arguments) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def measure(size: int, rounds: int) -> str:
    """Time all cases between the machine's probes. Returns a table, and the machine's rates."""
    n = 2048
    matrix = jnp.ones((n, n))
    array = jnp.ones(2**26)
    probes = [(jax.jit(jnp.matmul), (matrix, matrix)), (jax.jit(lambda a: a + 1), (array,))]
    rows = []
    for name, count, function, inputs in cases(size):
        compiled = function.lower(*inputs).compile()
        moved = compiled.cost_analysis()["bytes accessed"]
        runs = [(compiled, inputs), *probes]
        for run in runs:
            seconds(*run)
        times = [[seconds(*run) for run in runs] for _ in range(rounds)]
        own, product, copy = (statistics.median(column) for column in zip(*times, strict=True))
        rate, bandwidth = 2 * n**3 / product, 2 * array.nbytes / copy
        rows.append(
            (
                name,
                f"{count / 1e9:.1f}",
                f"{moved / 1e9:.2f}",
                f"{1e3 * own:.1f}",
                f"{count / own / 1e9:.0f}",
                f"{count / own / rate:.0%}",
                f"{1e3 * count / rate:.0f} ms",
                f"{1e3 * moved / bandwidth:.0f} ms",
            )
        )
    headings = ("", "GFLOP", "GB", "ms", "GFLOP/s", "of product", "products", "transfer")
    align = ("left", *["right"] * 7)
    table = tabulate(rows, headings, disable_numparse=True, colalign=align)
    rates = f"matrix product {rate / 1e9:.0f} GFLOP/s, copy {bandwidth / 1e9:.1f} GB/s"
    return f"{table}\n\n{rates}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=pathlib.Path, help="folder for roofline.txt")
    arguments = parser.parse_args()
    jax_settings.configure(training=True)
    text = f"{machine()}\n\n{measure(arguments.size, arguments.rounds)}\n"
    print(text)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "roofline.txt").write_text(text)


if __name__ == "__main__":
    main()
