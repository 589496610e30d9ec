"""Layers compute their plain formulas, and what PyTorch computes."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from eal_icnet_jax import layers
from eal_icnet_jax.layers import (
    attention,
    dense_convolution,
    initializers,
    normalization,
    transposed_convolution,
)
from eal_icnet_jax.layers.channel_product import channel_product
from eal_icnet_jax.layers.depthwise_convolution import depthwise_conv
from eal_icnet_jax.layers.plain_forms import plain_forms
from eal_icnet_jax.models import create_model
from eal_icnet_jax.system.errors import UserError

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def assert_same_with_gradients(fast, plain, *arguments):
    """Both functions return the same, and weighted sums of their results have equal gradients."""
    out, want = fast(*arguments), plain(*arguments)
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
    weight = normal(*want.shape)
    every = tuple(range(len(arguments)))
    grads = [
        jax.grad(lambda *a, f=f: (f(*a) * weight).sum(), every)(*arguments) for f in (fast, plain)
    ]
    for got, expected in zip(*grads, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "dilation"), [((3, 1), (1, 1)), ((1, 3), (1, 5)), ((3, 3), (2, 4))]
)
def test_depthwise_conv_equals_grouped_conv(kernel, dilation):
    def plain(x, k):
        padding = [(d * (n // 2),) * 2 for d, n in zip(dilation, kernel, strict=True)]
        return jax.lax.conv_general_dilated(
            x, k, (1, 1), padding, rhs_dilation=dilation, feature_group_count=x.shape[-1],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    assert_same_with_gradients(
        lambda x, k: depthwise_conv(x, k, dilation),
        plain,
        normal(2, 9, 11, 5),
        normal(*kernel, 1, 5),
    )


@pytest.mark.parametrize(("size", "padding"), [(3, ((0, 1), (0, 1))), (5, ((1, 2), (2, 2)))])
def test_strided_depthwise_conv_equals_grouped_conv(size, padding):
    """At even and odd sizes, also with zeros on one side only."""

    def plain(x, k):
        return jax.lax.conv_general_dilated(
            x, k, (2, 2), padding, feature_group_count=5, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert_same_with_gradients(
        lambda x, k: depthwise_conv(x, k, stride=2, padding=padding),
        plain,
        normal(2, 10, 11, 5),
        normal(size, size, 1, 5),
    )


@pytest.mark.parametrize("size", [2, 3])
def test_conv_transpose_matches_pytorch(size):
    layer = layers.ConvTranspose(5, 4, size, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = normal(2, 7, 6, 5)
    spread = {"stride": 2, "padding": size - 2, "output_padding": size - 2}
    want = torch.nn.functional.conv_transpose2d(
        torch.tensor(np.asarray(x)).permute(0, 3, 1, 2),
        torch.tensor(np.asarray(layer.transposed_kernel[...])).permute(2, 3, 0, 1),
        torch.tensor(np.asarray(layer.bias[...])),
        **spread,
    )
    np.testing.assert_allclose(layer(x), want.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    bound = 1 / np.sqrt(4 * size * size)
    assert 0.9 * bound < np.abs(layer.transposed_kernel[...]).max() <= bound


@pytest.mark.parametrize("form", ["transposed_conv", "matmul_transposed_conv"])
@pytest.mark.parametrize("size", [2, 3])
def test_transposed_conv_equals_xlas(form, size):
    assert_same_with_gradients(
        getattr(transposed_convolution, form),
        transposed_convolution.direct_transposed_conv,
        normal(2, 7, 6, 5),
        normal(size, size, 5, 4),
    )


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 2)])
def test_winograd_conv_equals_direct_conv(size):
    """At even and odd sizes."""
    arguments = normal(2, *size, 5), normal(3, 3, 5, 4)
    assert_same_with_gradients(
        dense_convolution.winograd_conv, dense_convolution.direct_conv, *arguments
    )


@pytest.mark.parametrize("size", [(16, 24), (7, 9), (1, 30)])
@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_line_conv_equals_direct_conv(size, taps, dilation):
    """Along rows and columns, where tiles fit the image and where they do not."""
    for shape, steps in (((taps, 1), (dilation, 1)), ((1, taps), (1, dilation))):
        x, kernel = normal(2, *size, 5), normal(*shape, 5, 4)
        expected = dense_convolution.direct_conv(x, kernel, 1, steps)
        found = dense_convolution.line_conv(x, kernel, steps)
        np.testing.assert_allclose(found, expected, atol=2e-6 * np.ptp(expected))


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 2)])
def test_winograd_image_gradient_is_that_of_direct_conv(size):
    x, kernel, gradient = normal(2, *size, 5), normal(3, 3, 5, 4), normal(2, *size, 4)
    (expected,) = jax.vjp(lambda x: dense_convolution.direct_conv(x, kernel), x)[1](gradient)
    found = dense_convolution.winograd_image_gradient(gradient, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [
        ((8, 6), (3, 3, 96, 72), 1, (1, 1)),
        ((8, 7), (3, 3, 6, 24), 2, (1, 1)),
        ((7, 9), (3, 3, 6, 5), 1, (1, 1)),
        ((9, 8), (3, 3, 6, 5), 2, (1, 1)),
        ((8, 7), (3, 3, 6, 5), 2, (1, 1)),
        ((9, 11), (3, 5, 6, 5), 1, (2, 3)),
        ((7, 9), (3, 3, 116, 5), 1, (1, 1)),
        ((9, 11), (3, 5, 80, 5), 1, (2, 3)),
        ((9, 8), (5, 1, 6, 5), 3, (2, 1)),
        ((8, 5), (5, 1, 64, 64), 1, (1, 1)),
        ((5, 8), (1, 3, 128, 128), 1, (1, 2)),
    ],
)
def test_cpu_conv_equals_direct_conv(monkeypatch, size, kernel, stride, dilation):
    """In every form, for any kernel size, and with the kernel's gradient in several blocks."""
    monkeypatch.setattr(dense_convolution, "PATCHES_PER_BLOCK", 40)
    assert_same_with_gradients(
        lambda x, k: dense_convolution.cpu_conv(x, k, stride, dilation),
        lambda x, k: dense_convolution.direct_conv(x, k, stride, dilation),
        normal(2, *size, kernel[2]),
        normal(*kernel) / np.sqrt(np.prod(kernel[:3])),
    )


@pytest.mark.parametrize(("height", "strips"), [(8, 2), (9, 2), (13, 4), (2, 3)])
def test_strip_conv_equals_direct_conv(height, strips):
    """With rows that do not divide into the strips, and with more strips than rows."""
    x, kernel = normal(2, height, 5, 6), normal(3, 3, 6, 4)
    assert_same_with_gradients(
        lambda x, k: dense_convolution.strip_conv(x, k, strips),
        dense_convolution.direct_conv,
        x,
        kernel,
    )


@pytest.mark.parametrize("outputs", [7, 2])
@pytest.mark.parametrize("shape", [(9,), (2, 3, 4, 9)])
def test_channel_product_is_the_matrix_product(shape, outputs):
    """With its gradients; among plain forms, it is nothing but a product."""
    x, matrix = normal(*shape), normal(9, outputs)
    assert_same_with_gradients(channel_product, jnp.matmul, x, matrix)
    with plain_forms():
        assert "custom_vjp" not in str(jax.make_jaxpr(channel_product)(x, matrix))


def test_choice_of_convolution_on_cpu(monkeypatch):
    """It depends on both sizes; 1x1 is a matrix product, other dtypes take XLA's convolution."""
    chosen = []
    uncached = dense_convolution._conv_by_platform.__wrapped__
    monkeypatch.setattr(dense_convolution, "_conv_by_platform", uncached)
    for name in ("winograd_conv", "line_conv", "row_dilated_conv", "strip_conv", "direct_conv"):
        form = getattr(dense_convolution, name)

        def spy(*arguments, form=form, name=name, **options):
            chosen.append(name)
            return form(*arguments, **options)

        monkeypatch.setattr(dense_convolution, name, spy)

    def fast_forms():
        return ({*chosen} - {"direct_conv"}) or {*chosen}

    def on_cpu(features, outputs, kernel_size=(3, 3), size=64, dtype=jnp.float32, **options):
        chosen.clear()
        layer = layers.Conv(
            features, outputs, kernel_size, dtype=dtype, rngs=nnx.Rngs(0), **options
        )
        jax.eval_shape(layer, jax.ShapeDtypeStruct((1, size, size, features), dtype))
        return fast_forms()

    def in_training(features, outputs, size):
        chosen.clear()
        x = jax.ShapeDtypeStruct((1, size, size, features), jnp.float32)
        kernel = jax.ShapeDtypeStruct((3, 3, features, outputs), jnp.float32)
        forward = dense_convolution._cpu_conv_forward
        jax.eval_shape(lambda x, kernel: forward(x, kernel, 1, (1, 1), 1), x, kernel)
        return fast_forms()

    assert on_cpu(128, 64) == on_cpu(256, 256, size=128) == {"winograd_conv"}
    assert on_cpu(64, 32, size=128) == {"winograd_conv"}
    assert on_cpu(64, 64, (5, 1)) == on_cpu(128, 128, (1, 3), dilation=(1, 2)) == {"line_conv"}
    assert on_cpu(40, 40, (1, 3), size=128) == {"line_conv"}
    assert on_cpu(64, 64, (3, 1)) == on_cpu(64, 64, (5, 1), size=62) == {"row_dilated_conv"}
    assert on_cpu(64, 64, stride=2, size=256) == {"row_dilated_conv"}
    assert on_cpu(64, 32) == on_cpu(128, 64, stride=2) == {"row_dilated_conv"}
    assert on_cpu(32, 32, dilation=(2, 2)) == on_cpu(32, 32, size=256) == {"row_dilated_conv"}
    assert on_cpu(64, 16) == on_cpu(64, 64, size=256) == {"direct_conv"}
    assert on_cpu(32, 32, size=320) == in_training(32, 32, 256) == {"strip_conv"}
    assert on_cpu(18, 18, size=128) == in_training(18, 18, 128) == {"strip_conv"}
    assert on_cpu(32, 32, size=512) == in_training(32, 32, 64) == {"direct_conv"}
    assert in_training(64, 32, 128) == {"row_dilated_conv"}
    assert on_cpu(64, 32, (1, 1)) == set()
    assert on_cpu(1, 32) == on_cpu(64, 32, dtype=jnp.bfloat16) == {"direct_conv"}


def test_position_attention_never_holds_all_scores():
    """Its memory is linear in the tokens, also in the backward pass."""
    tokens = 2048
    shapes = [(1, tokens, 4), (1, tokens, 4), (1, tokens, 6)]

    def loss(*arguments):
        return jnp.square(attention.position_attention(*arguments)).sum()

    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*arguments).compile()
    text = compiled.as_text()
    sizes = [
        int(np.prod([int(n) for n in shape.split(",")]))
        for shape in re.findall(r"f32\[([\d,]+)\]", text)
    ]
    assert max(sizes) == attention.BLOCK_TOKENS * tokens


@pytest.mark.parametrize("tokens", [16, 48, 50])
def test_position_attention_equals_softmax_attention(monkeypatch, tokens):
    """With one block, several blocks, and a last block that is not full."""
    monkeypatch.setattr(attention, "BLOCK_TOKENS", 16)

    def plain(q, k, v):
        return jax.nn.softmax(q @ k.swapaxes(1, 2), -1) @ v

    arguments = normal(2, tokens, 4), normal(2, tokens, 4), normal(2, tokens, 6)
    assert_same_with_gradients(attention.position_attention, plain, *arguments)


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("images", [0.5, 1, 3])
def test_position_attention_of_one_image_after_another(monkeypatch, images, shards):
    """On CPU where the scores of the whole batch are too many, whoever shares the batch."""
    monkeypatch.setattr(attention, "BLOCK_TOKENS", 8)
    tokens = 20 + 10 * shards + int(2 * images)  # others than before: traces are cached
    monkeypatch.setattr(attention, "CPU_SCORES", int(images * 8 * tokens))
    arguments = normal(6, tokens, 4), normal(6, tokens, 4), normal(6, tokens, 3)
    with layers.batch_sharded_over(shards):
        assert_same_with_gradients(
            attention.position_attention, attention.whole_position_attention, *arguments
        )
        program = str(jax.make_jaxpr(attention.position_attention)(*arguments))
    together = min(6 // shards, max(1, int(images)))
    assert f"f32[{together * shards},8,{tokens}]" in program


def test_batch_norm_prelu_equals_its_formula():
    def plain(x, scale, bias, slope):
        mean = x.mean((0, 1, 2))
        var = jnp.square(x - mean).mean((0, 1, 2))
        y = (x - mean) / jnp.sqrt(var + 1e-3) * scale + bias
        return jnp.where(y > 0, y, slope * y)

    assert_same_with_gradients(
        lambda *a: normalization.batch_norm_prelu(*a, 1e-3)[0],
        plain,
        normal(2, 5, 7, 6) * 3 + 1,
        *(normal(6) for _ in range(3)),
    )


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_max_pool_2x2_matches_pytorch(size):
    """Its gradient goes to the first of equal values."""
    x = np.round(np.asarray(normal(2, *size, 3)), 0)
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    want = torch.nn.functional.max_pool2d(theirs, 2, ceil_mode=True)
    want.square().sum().backward()
    got = layers.max_pool_2x2(jnp.asarray(x))
    gradient = jax.grad(lambda x: jnp.square(layers.max_pool_2x2(x)).sum())(jnp.asarray(x))
    assert np.array_equal(got, want.detach().numpy().transpose(0, 2, 3, 1))
    assert np.array_equal(gradient, theirs.grad.numpy().transpose(0, 2, 3, 1))


def test_tssa_matches_its_equations_in_pytorch():

    def torch_tssa(w, temperature):
        w = w.transpose(1, 2)
        squared = torch.nn.functional.normalize(w, dim=-2) ** 2
        membership = torch.softmax(squared.sum(-1) * temperature, 1)
        weights = membership / (membership.sum(-1, keepdim=True) + 1e-8)
        dots = weights.unsqueeze(-2) @ w**2
        return (-(w * membership.unsqueeze(-1)) / (1 + dots)).transpose(1, 2)

    w, temperature = normal(2, 30, 4, 8), jnp.abs(normal(4, 1)) + 0.5
    want = torch_tssa(torch.tensor(np.asarray(w)), torch.tensor(np.asarray(temperature)))
    got = attention.token_statistics_attention(w, temperature)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    inputs = [torch.tensor(np.asarray(x), requires_grad=True) for x in (w, temperature)]
    weight = normal(*w.shape)
    (torch_tssa(*inputs) * torch.tensor(np.asarray(weight))).sum().backward()
    grads = jax.grad(lambda *a: (attention.token_statistics_attention(*a) * weight).sum(), (0, 1))(
        w, temperature
    )
    for ours, theirs in zip(grads, inputs, strict=True):
        np.testing.assert_allclose(ours, theirs.grad, rtol=1e-3, atol=1e-5)


def test_tssa_drops_in_training_only():
    layer = layers.TSSA(16, heads=2, dropout=0.5, rngs=nnx.Rngs(0))
    x = normal(1, 4, 4, 16)
    assert not np.array_equal(layer(x), layer(x))
    layer.eval()
    assert np.array_equal(layer(x), layer(x))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batch_norm_matches_pytorch_over_two_steps(dtype):
    ours = layers.BatchNorm(3, epsilon=1e-3, dtype=jnp.dtype(dtype))
    theirs = torch.nn.BatchNorm2d(3, eps=1e-3)
    for _ in range(2):
        x = 3 + 2 * normal(2, 5, 4, 3)
        want = theirs(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        tolerance = 1e-5 if dtype == "float32" else 3e-2
        got = np.asarray(ours(x), np.float32)
        np.testing.assert_allclose(got, want.detach(), atol=tolerance)
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean, rtol=1e-5)
    np.testing.assert_allclose(ours.var[...], theirs.running_var, rtol=1e-5)
    assert int(ours.count[...]) == int(theirs.num_batches_tracked) == 2
    assert ours.mean[...].dtype == jnp.float32


def test_batch_norm_refuses_a_single_value():
    with pytest.raises(ValueError, match="more than one value"):
        layers.BatchNorm(3)(normal(1, 1, 1, 3))


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_pooling_matches_pytorch(size):
    x = normal(2, *size, 3)
    nchw = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    mean = torch.nn.AvgPool2d(3, 2, 1)(nchw).permute(0, 2, 3, 1)
    highest = torch.nn.MaxPool2d(2, ceil_mode=True)(nchw).permute(0, 2, 3, 1)
    np.testing.assert_allclose(layers.avg_pool_3x3(x), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layers.max_pool_2x2(x), highest)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(32, 24), (37, 21), (5, 4), (3, 1)])
def test_resize_bilinear_matches_pytorch(size, align_corners):
    x = normal(1, 5, 4, 2)
    nchw = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    want = torch.nn.functional.interpolate(nchw, size, mode="bilinear", align_corners=align_corners)
    got = layers.resize_bilinear(x, size, align_corners=align_corners)
    np.testing.assert_allclose(got, want.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6)
    # Resizing is linear, so its gradient is the adjoint.
    y = normal(*got.shape)
    resize = functools.partial(layers.resize_bilinear, size=size, align_corners=align_corners)
    (back,) = jax.vjp(resize, x)[1](y)
    along = normal(*x.shape)
    assert jnp.vdot(back, along) == pytest.approx(float(jnp.vdot(y, resize(along))), rel=1e-4)


@pytest.mark.parametrize("align_corners", [False, True])
def test_resize_bilinear_of_unknown_lengths(align_corners):
    def threefold(x):
        size = 3 * x.shape[1], 3 * x.shape[2]
        return layers.resize_bilinear(x, size, align_corners=align_corners)

    height, width = jax.export.symbolic_shape("height, width")
    shape = jax.ShapeDtypeStruct((1, 2 * height, 2 * width, 2), np.float32)
    exported = jax.export.export(jax.jit(threefold))(shape)
    for size in ((4, 6), (2, 10)):
        x = normal(1, *size, 2)
        np.testing.assert_allclose(exported.call(x), threefold(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_scan_blocks_equals_unrolled_blocks(training):
    """In output, gradients and running statistics."""

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.conv = layers.ConvBN(4, 4, dtype=jnp.float32, rngs=rngs)

        def __call__(self, x):
            return x + self.conv(x)

    rngs = nnx.Rngs(0)
    looped = nnx.List([Block(rngs) for _ in range(3)])
    plain = nnx.clone(looped)
    for blocks in (looped, plain):
        blocks.train() if training else blocks.eval()

    def unrolled(blocks, x):
        for block in blocks:
            x = block(x)
        return x

    x = normal(2, 6, 5, 4)
    results = []
    for blocks, apply in ((looped, layers.scan_blocks), (plain, unrolled)):

        @nnx.jit
        def loss_and_gradients(blocks, x, apply=apply):
            return nnx.value_and_grad(lambda blocks: jnp.square(apply(blocks, x)).sum())(blocks)

        results.append((*loss_and_gradients(blocks, x), nnx.state(blocks, nnx.BatchStat)))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
    assert bool(looped[2].conv.bn.count[...]) == training


def test_scan_blocks_refuses_a_batch_sharded_over_cpu_processes(monkeypatch):
    """XLA would confuse the loop's sums over the batch with others."""
    blocks = nnx.List([layers.ConvBN(4, 4, dtype=jnp.float32, rngs=nnx.Rngs(0)) for _ in range(2)])
    x = normal(2, 6, 5, 4)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    # In evaluation every process has its own batch.
    assert layers.scan_blocks(blocks, x).shape == x.shape
    with layers.batch_sharded_over(2), pytest.raises(UserError, match="in one process, or on GPUs"):
        layers.scan_blocks(blocks, x)


def test_initialisation_is_pytorchs():
    """Kernels and biases are uniform in +-1/sqrt(fan_in); slopes are 0.25."""
    conv = layers.Conv(16, 64, (3, 3), use_bias=True, rngs=nnx.Rngs(0))
    bound = 1 / np.sqrt(16 * 9)
    for values in (conv.kernel[...], conv.bias[...]):
        assert 0.9 * bound < np.abs(values).max() <= bound
        assert np.std(values) == pytest.approx(bound / np.sqrt(3), rel=0.15)
    depthwise = layers.Conv(64, 64, (3, 1), depthwise=True, rngs=nnx.Rngs(0))
    assert 0.9 / np.sqrt(3) < np.abs(depthwise.kernel[...]).max() <= 1 / np.sqrt(3)
    assert np.all(layers.PReLU(4).slope[...] == 0.25)
    linear = layers.linear(144, 64, dtype=jnp.float32, rngs=nnx.Rngs(0))
    for values in (linear.kernel[...], linear.bias[...]):
        assert 0.9 * bound < np.abs(values).max() <= bound


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("normal", (0.02,)),
        ("variance_scaling", (1 / 3, "fan_in", "uniform")),
        ("variance_scaling", (1, "fan_avg", "uniform")),
        ("variance_scaling", (2, "fan_out", "normal")),
    ],
)
@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 1, 64, 1)])
def test_initializers_draw_what_jaxs_draw(name, arguments, shape):
    """In a program too, where a network is made under `jax.jit`."""
    ours = getattr(initializers, name)(*arguments)
    key = jax.random.key(3)
    want = getattr(jax.nn.initializers, name)(*arguments)(key, shape, jnp.float32)
    assert np.array_equal(ours(key, shape), want)
    compiled = jax.jit(ours, static_argnums=1)(key, shape)
    np.testing.assert_allclose(compiled, want, rtol=1e-6, atol=1e-9)


def test_layer_norm_matches_pytorch():
    x = 3 + 2 * normal(2, 5, 7)
    ours = layers.layer_norm(7, dtype=jnp.float32)
    theirs = torch.nn.LayerNorm(7)
    for name in ("scale", "bias"):
        getattr(ours, name)[...] = normal(7)
    theirs.weight.data = torch.tensor(np.asarray(ours.scale[...]))
    theirs.bias.data = torch.tensor(np.asarray(ours.bias[...]))
    want = theirs(torch.tensor(np.asarray(x))).detach()
    np.testing.assert_allclose(ours(x), want, rtol=1e-5, atol=1e-6)
    half = layers.layer_norm(7, dtype=jnp.bfloat16)
    assert half(x).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ["eal_icnet", "contextnet", "esnet", "edanet"])
def test_fold_batch_norms(name):
    """The folded copy computes the same without batch statistics, and the original stays as it is.

    The networks normalise after convolutions with and without a bias, after sums, and in branches
    that share a normalisation.
    """
    model = create_model(name, rngs=nnx.Rngs(0))
    for _, module in nnx.iter_graph(model):
        if isinstance(module, layers.BatchNorm):
            for leaf in (module.mean, module.var, module.scale, module.bias):
                leaf[...] = jnp.asarray(RNG.uniform(0.5, 2, leaf[...].shape), jnp.float32)
    model.eval()
    image = jnp.asarray(RNG.random((1, 40, 36, 1)), jnp.float32)
    forward = nnx.jit(lambda model, image: model(image))
    want = forward(model, image)
    folded = layers.fold_batch_norms(model)
    np.testing.assert_allclose(forward(folded, image), want, atol=1e-5 * float(jnp.ptp(want)))
    assert not nnx.to_flat_state(nnx.state(folded, nnx.BatchStat))
    assert np.array_equal(forward(model, image), want)
