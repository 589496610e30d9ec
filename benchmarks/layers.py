"""Time each fast path in `layers` against the plain form of the same computation.

    python benchmarks/layers.py

Sizes are those of EAL-ICNet on a 512x512 image; forward passes and gradients are timed. The two
forms run alternately in nine rounds. Times are medians in milliseconds; the ratio is the median of
the rounds' ratios of plain to fast.
"""

import statistics
import time

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers import max_pool_2x2
from eal_icnet_jax.layers.attention import position_attention, token_statistics_attention
from eal_icnet_jax.layers.channel_product import channel_product
from eal_icnet_jax.layers.dense_convolution import dense_conv, direct_conv, strip_conv
from eal_icnet_jax.layers.depthwise_convolution import depthwise_conv
from eal_icnet_jax.layers.normalization import batch_norm_prelu
from eal_icnet_jax.layers.resizing import resize_bilinear
from eal_icnet_jax.layers.transposed_convolution import direct_transposed_conv, transposed_conv


def grouped_conv(x, kernel, dilation):
    padding = [(d * (k // 2),) * 2 for d, k in zip(dilation, kernel.shape[:2], strict=True)]
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, rhs_dilation=dilation, feature_group_count=x.shape[-1],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def plain_attention(query, key, value):
    return jax.nn.softmax(query @ key.swapaxes(1, 2), axis=-1) @ value


def plain_tssa(w, temperature):
    """Compute TSSA with its sums as reductions of whole arrays."""
    energy = jnp.square(w)
    share = energy / jnp.maximum(energy.sum(1, keepdims=True), 1e-24)
    membership = jax.nn.softmax(share.sum(-1, keepdims=True) * temperature, axis=2)
    weights = membership / (membership.sum(1, keepdims=True) + 1e-8)
    return -(w * membership) / (1 + (weights * energy).sum(1, keepdims=True))


def plain_batch_norm_prelu(x, scale, bias, slope):
    mean = x.mean((0, 1, 2))
    var = jnp.square(x - mean).mean((0, 1, 2))
    y = (x - mean) * (scale * jax.lax.rsqrt(var + 1e-3)) + bias
    return jnp.where(y > 0, y, y * slope)


def plain_max_pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def plain_resize(x, size):
    return jax.image.resize(x, (x.shape[0], size, size, x.shape[3]), "linear")


def cases():
    """Yield name, fast form, plain form and shapes of the arguments of each comparison."""
    for size, features, d in ((128, 32, 2), (64, 64, 4), (64, 64, 16)):
        yield (
            f"depthwise 3x1 {size}x{size}x{features} dilation {d}",
            lambda x, k, d=d: depthwise_conv(x, k, (d, 1)),
            lambda x, k, d=d: grouped_conv(x, k, (d, 1)),
            ((1, size, size, features), (3, 1, 1, features)),
        )
    for size, kernel, features, outputs, stride in (
        (256, (3, 3), 32, 32, 1),
        (256, (3, 3), 33, 31, 2),
        (256, (3, 3), 64, 64, 2),
        (128, (3, 3), 64, 32, 1),
        (128, (3, 3), 64, 64, 1),
        (128, (3, 3), 129, 128, 2),
        (64, (3, 3), 128, 64, 1),
        (128, (5, 1), 64, 64, 1),
        (64, (3, 1), 128, 128, 1),
        (64, (1, 1), 64, 128, 1),
    ):
        yield (
            f"{kernel[0]}x{kernel[1]} {size}x{size} {features}->{outputs}"
            + (f" stride {stride}" if stride > 1 else ""),
            lambda x, k, stride=stride: dense_conv(x, k, stride),
            lambda x, k, stride=stride: direct_conv(x, k, stride),
            ((1, size, size, features), (*kernel, features, outputs)),
        )
    for size, features, outputs, strips in ((256, 32, 32, 2), (128, 64, 32, 2), (128, 24, 24, 8)):
        yield (
            f"3x3 {size}x{size} {features}->{outputs} in {strips} strips",
            lambda x, k, strips=strips: strip_conv(x, k, strips),
            direct_conv,
            ((1, size, size, features), (3, 3, features, outputs)),
        )
    for size, features, outputs in ((128, 32, 64), (64, 64, 128), (64, 128, 128), (64, 257, 1)):
        yield (
            f"channel product {size}x{size} {features}->{outputs}",
            channel_product,
            jnp.matmul,
            ((1, size, size, features), (features, outputs)),
        )
    for size, features, outputs in ((32, 512, 512), (256, 64, 32)):
        yield (
            f"transposed 3x3 {size}x{size} {features}->{outputs}",
            transposed_conv,
            direct_transposed_conv,
            ((1, size, size, features), (3, 3, features, outputs)),
        )
    for size, features in ((256, 32), (128, 64), (64, 128)):
        yield (
            f"batch norm, PReLU {size}x{size}x{features}",
            lambda *a: batch_norm_prelu(*a, 1e-3)[0],
            plain_batch_norm_prelu,
            ((1, size, size, features), *[(features,)] * 3),
        )
    yield "2x2 maximum 256x256x33", max_pool_2x2, plain_max_pool, ((1, 256, 256, 33),)
    for features in (1, 128):
        size = 512 if features == 1 else 128
        yield (
            f"resizing 64x64x{features} to {size}x{size}",
            lambda x, size=size: resize_bilinear(x, (size, size)),
            lambda x, size=size: plain_resize(x, size),
            ((1, 64, 64, features),),
        )
    tokens = 64 * 64
    for batch in (1, 4):
        yield (
            "position attention 4096 tokens" + (f" batch {batch}" if batch > 1 else ""),
            position_attention,
            plain_attention,
            ((batch, tokens, 16), (batch, tokens, 16), (batch, tokens, 128)),
        )
    yield (
        "TSSA 4096 tokens",
        token_statistics_attention,
        plain_tssa,
        ((1, tokens, 8, 16), (8, 1)),
    )


def with_gradients(function, arguments):
    every = tuple(range(len(arguments)))
    return jax.jit(jax.grad(lambda *a: jnp.sum(jnp.square(function(*a))), every))


def milliseconds(function, arguments) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return 1e3 * (time.perf_counter() - start)


def main():
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    print(f"{'layer':40s} {'':9s} {'fast':>8s} {'plain':>8s} {'ratio':>6s}")
    for name, fast, plain, shapes in cases():
        keys = jax.random.split(jax.random.key(0), len(shapes))
        arguments = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
        for task in ("forward", "gradient"):
            functions = [
                jax.jit(f) if task == "forward" else with_gradients(f, arguments)
                for f in (fast, plain)
            ]
            for function in functions:
                milliseconds(function, arguments)
            times = [[milliseconds(f, arguments) for f in functions] for _ in range(9)]
            fast_ms, plain_ms = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(b / a for a, b in times)
            print(f"{name:40s} {task:9s} {fast_ms:8.2f} {plain_ms:8.2f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
