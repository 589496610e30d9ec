"""What a network costs: its parameters, and the operations that an image takes."""

import math

import jax
import numpy as np
from flax import nnx


def parameters(model: nnx.Module) -> int:
    """How many numbers training changes."""
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    return sum(math.prod(leaf.shape) for leaf in leaves)


def operations(model: nnx.Module, shape: tuple[int, int, int, int]) -> int:
    """Operations of a forward pass: a multiplication and an addition are two.

    Counted are convolutions and matrix products, by the formula of each, as PyTorch's
    `FlopCounterMode` counts; resizing, normalisation and activations are few and are not.

    Args:
      shape: of the images, `[B, H, W, in_channels]`.
    """
    graphdef, state = nnx.split(model)
    image = jax.ShapeDtypeStruct(shape, np.float32)
    traced = jax.make_jaxpr(lambda state, image: nnx.merge(graphdef, state)(image))(state, image)
    return _operations(traced.jaxpr, "")


def _operations(jaxpr, scope: str) -> int:
    return sum(_of_equation(equation, scope) for equation in jaxpr.eqns)


def _of_equation(equation, scope: str) -> int:
    scope = f"{scope}/{equation.source_info.name_stack}"
    if "resize_bilinear" in scope:
        return 0
    name, parameters = equation.primitive.name, equation.params
    if name == "mul" and "depthwise_conv" in scope:  # shifted slices, each scaled and added
        return 2 * equation.outvars[0].aval.size
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "cond":  # the last branch is that of `platform_dependent`'s default, the plain form
        return _operations(parameters["branches"][-1].jaxpr, scope)
    times = parameters["length"] if name == "scan" else 1
    inner = (getattr(value, "jaxpr", value) for value in parameters.values())
    return times * sum(_operations(part, scope) for part in inner if hasattr(part, "eqns"))


def _of_convolution(equation) -> int:
    kernel = equation.invars[1].aval.shape
    numbers = equation.params["dimension_numbers"]
    _, features, *window = (kernel[axis] for axis in numbers.rhs_spec)
    # Of a transposed convolution each value of the image, not of the output, meets the window.
    spread = math.prod(equation.params["lhs_dilation"])
    return 2 * equation.outvars[0].aval.size * features * math.prod(window) // spread
