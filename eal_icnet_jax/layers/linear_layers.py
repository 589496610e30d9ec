"""`nnx.Linear` and `nnx.LayerNorm` with PyTorch's defaults."""

import numpy as np
from flax import nnx

from eal_icnet_jax.layers.initializers import KeylessRngs, kernel_init, uniform_init


def linear(
    in_features: int, out_features: int, *, use_bias: bool = True, dtype, rngs: nnx.Rngs
) -> nnx.Linear:
    """Return a linear layer `[..., in]` to `[..., out]`, initialised as `torch.nn.Linear`.

    Args:
      in_features: input channels.
      out_features: output channels.
      use_bias: whether the layer adds a bias.
      dtype: dtype of the computation; parameters are float32.
      rngs: stream `params`, for the kernel `[in, out]` and the bias `[out]`.
    """

    def bias_init(key, shape, dtype):
        return uniform_init(key, shape, 1 / np.sqrt(in_features), dtype)

    return nnx.Linear(
        in_features,
        out_features,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=kernel_init,
        bias_init=bias_init,
        rngs=rngs,
    )


def layer_norm(features: int, *, dtype) -> nnx.LayerNorm:
    """Return a normalisation over the last axis, equal to `torch.nn.LayerNorm`.

    Args:
      features: channels.
      dtype: dtype of the output; mean and variance are float32 at least.
    """
    # Scales of one and biases of zero need no keys. KeylessRngs takes none from the network's
    # stream, so that the other layers keep the initial weights that belong to a seed.
    return nnx.LayerNorm(
        features, epsilon=1e-5, use_fast_variance=False, dtype=dtype, rngs=KeylessRngs()
    )
