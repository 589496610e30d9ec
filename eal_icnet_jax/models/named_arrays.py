"""Weights and optimizer states as flat dictionaries of named arrays, which checkpoints hold."""

import hashlib

import jax
import numpy as np
from flax import nnx

WEIGHTS = nnx.Any(nnx.Param, nnx.BatchStat)
"""Filter for the variables that a checkpoint's item `model` holds."""

Arrays = dict[str, jax.Array]
"""Arrays by dotted name, such as "classifier.kernel"."""


def weight_arrays(*states: nnx.State) -> Arrays:
    """Return the parameters and batch statistics of states by dotted name."""
    flat = [
        item for state in states for item in nnx.to_flat_state(nnx.filter_state(state, WEIGHTS))
    ]
    return {".".join(map(str, path)): variable[...] for path, variable in flat}


def with_weights(state: nnx.State, arrays: Arrays) -> nnx.State:
    """Return the state with the parameters and batch statistics that `weight_arrays` returned."""

    def replaced(path, variable):
        name = ".".join(map(str, path))
        return variable.replace(arrays[name]) if name in arrays else variable

    flat = nnx.to_flat_state(state)
    return nnx.from_flat_state([(path, replaced(path, variable)) for path, variable in flat])


def _is_random_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def tree_arrays(tree) -> Arrays:
    """Return the leaves of any tree by dotted path. Random keys become their integer data."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            jax.random.key_data(leaf) if _is_random_key(leaf) else leaf
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def with_tree_arrays(tree, arrays: Arrays):
    """Return the tree with the leaves that `tree_arrays` returned."""

    def replaced(path, leaf):
        value = arrays[jax.tree_util.keystr(path, simple=True, separator=".")]
        return jax.random.wrap_key_data(value) if _is_random_key(leaf) else value

    return jax.tree_util.tree_map_with_path(replaced, tree)


def arrays_digest(arrays: Arrays) -> str:
    """Return the SHA-256 of named arrays: names, dtypes, shapes and values."""
    out = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        out.update(f"{name} {array.dtype} {array.shape}\n".encode())
        out.update(np.ascontiguousarray(array).data)
    return out.hexdigest()
