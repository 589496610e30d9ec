"""Assignment to parameters and statistics."""

import jax
from flax import nnx


def assign(module: nnx.Module, **values: jax.Array):
    """Gives variables of a module new values, by name.

    `variable[...] = value` asks a traced value for its sharding, which searches all that has been
    traced so far: minutes in a deep network.
    """
    fresh = {name: type(getattr(module, name))(value) for name, value in values.items()}
    nnx.update(module, nnx.State(fresh))
