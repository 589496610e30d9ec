"""The cost of a network: its parameters, and the operations of a forward pass."""

import math

import jax
import numpy as np
from flax import nnx


def parameters(model: nnx.Module) -> int:
    """Return the number of values that training changes."""
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    return sum(math.prod(leaf.shape) for leaf in leaves)


def operations(model: nnx.Module, shape: tuple[int, int, int, int]) -> int:
    """Return the operations of a forward pass; a multiply-add counts as two.

    Convolutions and matrix products are counted by their formulas, as PyTorch's `FlopCounterMode`
    does. Resizing, normalisation and activations take few operations and are not counted.

    Args:
      model: in evaluation mode.
      shape: of the images, `[B, H, W, in_channels]`.
    """
    graphdef, state = nnx.split(model)
    image = jax.ShapeDtypeStruct(shape, np.float32)
    traced = jax.make_jaxpr(lambda state, image: nnx.merge(graphdef, state)(image))(state, image)
    return _jaxpr_operations(traced.jaxpr, "")


def _jaxpr_operations(jaxpr, scope: str) -> int:
    return sum(_equation_operations(equation, scope) for equation in jaxpr.eqns)


def _equation_operations(equation, scope: str) -> int:
    scope = f"{scope}/{equation.source_info.name_stack}"
    if "resize_bilinear" in scope:
        return 0
    name, params = equation.primitive.name, equation.params
    if name == "mul" and "depthwise_conv" in scope:  # shifted slices, each scaled and added
        return 2 * equation.outvars[0].aval.size
    if name == "conv_general_dilated":
        return _convolution_operations(equation)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "cond":  # the last branch is the default of `platform_dependent`, the plain form
        return _jaxpr_operations(params["branches"][-1].jaxpr, scope)
    times = params["length"] if name == "scan" else 1
    inner = (getattr(value, "jaxpr", value) for value in params.values())
    return times * sum(_jaxpr_operations(part, scope) for part in inner if hasattr(part, "eqns"))


def _convolution_operations(equation) -> int:
    kernel = equation.invars[1].aval.shape
    numbers = equation.params["dimension_numbers"]
    _, features, *window = (kernel[axis] for axis in numbers.rhs_spec)
    # In a transposed convolution the window meets the values of the input, not of the output.
    dilation = math.prod(equation.params["lhs_dilation"])
    return 2 * equation.outvars[0].aval.size * features * math.prod(window) // dilation
