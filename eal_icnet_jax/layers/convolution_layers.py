"""Convolution modules, with and without normalisation, and the folding of normalisations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax.layers.canvas import mask_outside
from eal_icnet_jax.layers.dense_convolution import dense_conv, direct_conv
from eal_icnet_jax.layers.depthwise_convolution import depthwise_conv
from eal_icnet_jax.layers.initializers import bias_init, kernel_init, uniform_init
from eal_icnet_jax.layers.normalization import Affine, BatchNorm, BNPReLU
from eal_icnet_jax.layers.padding import Padding
from eal_icnet_jax.layers.transposed_convolution import transposed_conv


class Conv(nnx.Module):
    """`torch.nn.Conv2d` on NHWC arrays, with centred padding by default.

    Args:
      in_features: input channels.
      out_features: output channels.
      kernel_size: (rows, columns), odd.
      stride: stride of both axes.
      dilation: (rows, columns) of the kernel.
      padding: zeros around the image, by default `dilation * (kernel_size - 1) / 2` on each side.
      depthwise: whether every channel has a filter of its own; needs
        `in_features == out_features`.
      use_bias: whether the layer adds a bias per output channel.
      dtype: dtype of the computation; parameters are float32.
      rngs: stream `params`, for the kernel `[kh, kw, in, out]` (`[kh, kw, 1, out]` if depthwise)
        and the bias `[out]`.

    Raises:
      ValueError: a depthwise layer would change the number of channels.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: tuple[int, int] = (3, 3),
        *,
        stride: int = 1,
        dilation: tuple[int, int] = (1, 1),
        padding: Padding | None = None,
        depthwise: bool = False,
        use_bias: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if depthwise and in_features != out_features:
            raise ValueError(
                f"a depthwise Conv keeps its channels, but got {in_features} -> {out_features}"
            )
        shape = (*kernel_size, 1 if depthwise else in_features, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(bias_init(rngs.params(), shape)) if use_bias else None
        self.stride = stride
        self.dilation = tuple(dilation)
        self.padding = padding
        self.depthwise = depthwise
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in]` to `[B, ceil(H / stride), ceil(W / stride), out]` by default."""
        x = x.astype(self.dtype)
        kernel = self.kernel[...].astype(self.dtype)
        if kernel.shape[:2] != (1, 1):
            x = mask_outside(x)
        if self.depthwise:
            y = depthwise_conv(x, kernel, self.dilation, self.stride, self.padding)
        elif self.padding is not None:
            y = direct_conv(x, kernel, self.stride, self.dilation, self.padding)
        else:
            y = dense_conv(x, kernel, self.stride, self.dilation)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class _FoldableConv(nnx.Module):
    """A convolution `conv` that can absorb the normalisation right after it."""

    def _absorb(self, affine: Affine):
        conv = self.conv
        kernel = np.asarray(conv.kernel[...])
        scale = np.asarray(affine.scale[...], np.float64)
        offset = np.asarray(affine.offset[...], np.float64)
        if conv.bias is not None:
            offset = offset + scale * np.asarray(conv.bias[...])
        conv.kernel = nnx.Param((kernel * scale).astype(kernel.dtype))
        conv.bias = nnx.data(nnx.Param(offset.astype(kernel.dtype)))


class ConvBNPReLU(_FoldableConv):
    """A `Conv`, bias-free by default, then `BNPReLU`. The arguments are those of `Conv`."""

    def __init__(self, in_features, out_features, kernel_size=(3, 3), *, dtype, rngs, **options):
        self.conv = Conv(in_features, out_features, kernel_size, dtype=dtype, rngs=rngs, **options)
        self.bn_prelu = BNPReLU(out_features, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in]` to `[B, H', W', out]`, as `Conv` does."""
        return self.bn_prelu(self.conv(x))

    def fold(self):
        """Fold the normalisation into the convolution, for evaluation."""
        self._absorb(self.bn_prelu.bn.to_affine())
        self.bn_prelu.bn = None


class ConvBN(_FoldableConv):
    """A `Conv`, bias-free by default, then `BatchNorm` and an activation.

    Args:
      in_features: input channels.
      out_features: output channels.
      kernel_size: (rows, columns), odd.
      activation: function of the normalised values, or None.
      epsilon: epsilon of the normalisation.
      momentum: momentum of the normalisation.
      dtype: dtype of the computation; parameters are float32.
      rngs: stream `params`.
      **options: further arguments of `Conv`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: tuple[int, int] = (3, 3),
        *,
        activation: Callable[[jax.Array], jax.Array] | None = jax.nn.relu,
        epsilon: float = 1e-5,
        momentum: float = 0.1,
        dtype,
        rngs: nnx.Rngs,
        **options,
    ):
        self.conv = Conv(in_features, out_features, kernel_size, dtype=dtype, rngs=rngs, **options)
        self.bn = BatchNorm(out_features, epsilon=epsilon, momentum=momentum, dtype=dtype)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in]` to `[B, H', W', out]`, as `Conv` does."""
        x = self.conv(x)
        x = x if self.bn is None else self.bn(x)
        return x if self.activation is None else self.activation(x)

    def fold(self):
        """Fold the normalisation into the convolution, for evaluation."""
        self._absorb(self.bn.to_affine())
        self.bn = None


class ConvTranspose(nnx.Module):
    """`torch.nn.ConvTranspose2d` of stride 2 that doubles height and width, with a bias.

    PyTorch's padding and output padding are 1 for kernels of 3x3 and 0 for kernels of 2x2.

    Args:
      in_features: input channels.
      out_features: output channels.
      kernel_size: 2 or 3, of both axes.
      dtype: dtype of the computation; parameters are float32.
      rngs: stream `params`, for the kernel `[k, k, in, out]` and the bias `[out]`.
    """

    def __init__(self, in_features, out_features, kernel_size=3, *, dtype, rngs: nnx.Rngs):
        shape = (kernel_size, kernel_size, in_features, out_features)
        # PyTorch takes the second axis of a kernel for its fan-in. The kernel is `[in, out, k, k]`
        # there, so the fan-in counts the output channels.
        bound = 1 / np.sqrt(kernel_size * kernel_size * out_features)
        self.transposed_kernel = nnx.Param(uniform_init(rngs.params(), shape, bound))
        self.bias = nnx.Param(uniform_init(rngs.params(), shape[-1:], bound))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, in]` to `[B, 2 H, 2 W, out]`."""
        kernel = self.transposed_kernel[...].astype(self.dtype)
        y = transposed_conv(x.astype(self.dtype), kernel)
        return y + self.bias[...].astype(self.dtype)


def fold_batch_norms(model: nnx.Module) -> nnx.Module:
    """Return a faster copy of a model for evaluation, without `BatchNorm` layers.

    Normalisations in `ConvBNPReLU` and `ConvBN` become part of the convolution. All others become
    one product and one sum (`Affine`). The copy computes the same up to rounding.

    Args:
      model: network; it stays as it is.
    """
    model = nnx.clone(model)
    for _, module in list(nnx.iter_graph(model)):
        if isinstance(module, _FoldableConv):
            module.fold()
    for _, module in list(nnx.iter_graph(model)):
        if isinstance(module, nnx.Module):
            for name, child in list(vars(module).items()):
                if isinstance(child, BatchNorm):
                    setattr(module, name, child.to_affine())
    return model
