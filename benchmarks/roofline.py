"""What an image costs in operations and bytes, against what this machine reaches in the same run.

    python benchmarks/roofline.py --output=benchmarks/results

Operations are those of the formulas, counted by PyTorch on the network of `torch_eal_icnet.py` (a
product and a sum are two). Bytes are those that the compiled program says it moves to and from
memory, caches not counted. The machine's rates are those of a 2048x2048 float32 matrix product and
of a copy of 256 MB, both by XLA and between the timed runs.
"""

import argparse
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from speed import machine

from eal_icnet_jax import models, runtime
from eal_icnet_jax.layers import fold_batch_norms


def operations(size: int, training: bool) -> float:
    """Of the convolutions and matrix products; the rest is few."""
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
    """Name, operations, compiled program and arguments of each thing to run."""
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


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=pathlib.Path, help="folder for roofline.txt")
    arguments = parser.parse_args()
    runtime.configure(training=True)
    n = 2048
    matrix = jnp.ones((n, n))
    array = jnp.ones(2**26)
    probes = [(jax.jit(jnp.matmul), (matrix, matrix)), (jax.jit(lambda a: a + 1), (array,))]
    lines = [
        machine(),
        "",
        f"{'':10s} {'GFLOP':>6s} {'GB':>6s} {'ms':>7s} {'GFLOP/s':>8s} {'of product':>11s} "
        f"{'products':>9s} {'transfer':>9s}",
    ]
    for name, count, function, inputs in cases(arguments.size):
        compiled = function.lower(*inputs).compile()
        moved = compiled.cost_analysis()["bytes accessed"]
        runs = [(compiled, inputs), *probes]
        for run in runs:
            seconds(*run)
        times = [[seconds(*run) for run in runs] for _ in range(arguments.rounds)]
        own, product, copy = (statistics.median(column) for column in zip(*times, strict=True))
        rate, bandwidth = 2 * n**3 / product, 2 * array.nbytes / copy
        lines.append(
            f"{name:10s} {count / 1e9:6.1f} {moved / 1e9:6.2f} {1e3 * own:7.1f} "
            f"{count / own / 1e9:8.0f} {count / own / rate:10.0%} "
            f"{1e3 * count / rate:6.0f} ms {1e3 * moved / bandwidth:6.0f} ms"
        )
    lines += ["", f"matrix product {rate / 1e9:.0f} GFLOP/s, copy {bandwidth / 1e9:.1f} GB/s"]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "roofline.txt").write_text(text)


if __name__ == "__main__":
    main()
