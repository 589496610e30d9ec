"""Construction of networks by name."""

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax.layers import KeylessRngs
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.models.registry import ModelSpec, architecture
from eal_icnet_jax.system.errors import UserError


def option_defaults(name: str) -> dict[str, Any]:
    """Return the options of a network, each with its default."""
    parameters = inspect.signature(architecture(name).Model.__init__).parameters
    return {key: p.default for key, p in parameters.items() if key not in ("self", "rngs")}


def check_options(name: str, options: Iterable[str]):
    """Raise a `UserError` if a network has no option of one of the names."""
    known = option_defaults(name)
    if unknown := sorted(set(options) - set(known)):
        raise UserError(
            f"model {name} has no option {', '.join(unknown)}: it takes {', '.join(known)}"
        )


def create_model(
    name: str, *, in_channels: int = 1, classes: int = 1, rngs: nnx.Rngs, **options
) -> Network:
    """Build a network in training mode with fresh weights.

    Args:
      name: a name of `MODELS`.
      in_channels: channels of the images `[B, H, W, in_channels]`.
      classes: logits per pixel, `[B, H, W, classes]`.
      rngs: `nnx.Rngs(seed)`.
      **options: further arguments of the network's class, of JSON types. `dtype`, the dtype of the
        computation, may be a name such as "bfloat16".

    Returns:
      The network, with its `ModelSpec` in the attribute `spec`.

    Raises:
      UserError: the name is unknown, or the network has no such option or value.
    """
    check_options(name, options)
    cls = architecture(name).Model
    options = {"in_channels": in_channels, "classes": classes, **options}
    if "dtype" in options:
        options["dtype"] = jnp.dtype(options["dtype"]).name
    options = {key: _hashable(value) for key, value in options.items()}
    arguments = dict(options, dtype=jnp.dtype(options.get("dtype", "float32")))
    try:
        model = cls(rngs=rngs, **arguments)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"model {name} cannot be built with {options}: {error}") from error
    model.spec = ModelSpec(name, tuple(sorted(options.items())))
    return model


def _hashable(value):
    """Return a value of JSON types with its lists as tuples."""
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def with_first_outputs(model: Network, count: int) -> Network:
    """Return a network with only the first outputs of another, and the same weights.

    Args:
      model: whose arrays are used. Those of the outputs are cut along their last axis.
      count: number of outputs, at most as many as the network has.

    Raises:
      UserError: the network's last layer is of another form.
    """
    options = dict(model.spec.options)
    options["classes"] = count
    smaller = blank_model(model.spec.name, **options)
    graphdef, state = nnx.split(smaller)
    _, full = nnx.split(model)

    def cut(path, blank, value):
        if blank.shape != value.shape:
            value = value[..., :count]
        if blank.shape != value.shape:
            raise UserError(
                f"{model.spec.name} cannot lose an output: its {jax.tree_util.keystr(path)} is "
                f"{value.shape}"
            )
        return value

    smaller = nnx.merge(graphdef, jax.tree_util.tree_map_with_path(cut, state, full))
    smaller.spec = dataclasses.replace(
        model.spec,
        options=tuple(sorted(options.items())),
        outputs=model.spec.outputs[:count],
    )
    return smaller


def blank_model(name: str, **options) -> Network:
    """Build a network whose arrays are all zero, for weights that are about to be read.

    No computation takes place.

    Args:
      name: a name of `MODELS`.
      **options: arguments of `create_model` except `rngs`.

    Raises:
      UserError: as `create_model`.
    """
    abstract = nnx.eval_shape(lambda: create_model(name, rngs=KeylessRngs(0), **options))

    def blank(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return np.zeros(leaf.shape, leaf.dtype)

    graphdef, state = nnx.split(abstract)
    return nnx.merge(graphdef, jax.tree.map(blank, state))
