"""Depthwise convolution as shifted slices against XLA's grouped convolution, milliseconds.

    python benchmarks/depthwise.py

Kernels of 3x1 at the sizes of EAL-ICNet's two DAB blocks on a 512x512 image, forward and with
gradients; the two take turns, and each figure is the median of nine.
"""

import statistics
import time

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers.convolution import depthwise_conv


def grouped_conv(x, kernel, dilation):
    pads = [(d * (k // 2),) * 2 for d, k in zip(dilation, kernel.shape[:2], strict=True)]
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), pads, rhs_dilation=dilation, feature_group_count=x.shape[-1],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def milliseconds(function, *arguments) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return 1e3 * (time.perf_counter() - start)


def main():
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    print(f"{'input':>14s} {'dilation':>8s} {'what':>9s} {'slices':>8s} {'grouped':>8s}")
    for size, channels, dilation in ((128, 32, 2), (64, 64, 4), (64, 64, 16)):
        x = jax.random.normal(jax.random.key(0), (1, size, size, channels))
        kernel = jax.random.normal(jax.random.key(1), (3, 1, 1, channels))
        for what in ("forward", "gradient"):
            functions = []
            for convolution in (depthwise_conv, grouped_conv):

                def apply(x, k, convolution=convolution, dilation=dilation):
                    return convolution(x, k, (dilation, 1))

                def gradient(x, k, apply=apply):
                    return jax.grad(lambda x, k: jnp.sum(apply(x, k) ** 2), (0, 1))(x, k)

                functions.append(jax.jit(apply if what == "forward" else gradient))
            for function in functions:
                milliseconds(function, x, kernel)
            times = [[milliseconds(f, x, kernel) for f in functions] for _ in range(9)]
            ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
            print(
                f"{f'{size}x{size}x{channels}':>14s} {dilation:8d} {what:>9s} "
                f"{ours:8.2f} {theirs:8.2f}"
            )


if __name__ == "__main__":
    main()
