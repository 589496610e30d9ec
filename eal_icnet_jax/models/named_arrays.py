"""Weights and optimizer states as flat dictionaries of named arrays, which checkpoints hold."""

import hashlib

import jax
import numpy as np
from flax import nnx

WEIGHTS = nnx.Any(nnx.Param, nnx.BatchStat)
"""Filter for the variables that a checkpoint's item `model` holds."""

Arrays = dict[str, jax.Array]
"""Arrays by dotted name, such as "classifier.kernel"."""


def variable_arrays(state: nnx.State) -> Arrays:
    """Return the arrays of all variables of a state by dotted name."""
    return {".".join(map(str, path)): value[...] for path, value in nnx.to_flat_state(state)}


def weight_arrays(state: nnx.State) -> Arrays:
    """Return the parameters and batch statistics of a state by dotted name."""
    return variable_arrays(nnx.filter_state(state, WEIGHTS))


def weights_digest(model: nnx.Module) -> str:
    """Return the SHA-256 of a model's parameters and batch statistics, see `arrays_digest`."""
    return arrays_digest(weight_arrays(nnx.state(model)))


def with_arrays(state: nnx.State, arrays: Arrays) -> nnx.State:
    """Return the state with the arrays of some or all of its variables, by dotted name."""

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


def packed(arrays: Arrays) -> dict[str, np.ndarray]:
    """Join all arrays of a dtype to one, in the order of their names.

    A checkpoint takes a millisecond to write for each array, however small it is.

    Args:
      arrays: of any shapes, also on devices; they are copied to the host.

    Returns:
      An array `[N]` for each dtype, named by the dtype and by a digest of the names and shapes of
      the arrays in it. So arrays of other names or shapes have packs of other names.
    """
    return {
        name: np.concatenate([np.asarray(arrays[member]).ravel() for member in members])
        for name, members in _packs(arrays).items()
    }


def unpacked(packs: Arrays, like: Arrays) -> dict[str, np.ndarray]:
    """Return the arrays that were given to `packed`.

    Args:
      packs: what `packed` returned.
      like: arrays with the names, shapes and dtypes of those that were packed.
    """
    out = {}
    for name, members in _packs(like).items():
        ends = np.cumsum([like[member].size for member in members])
        parts = np.split(np.asarray(packs[name]), ends[:-1])
        for member, part in zip(members, parts, strict=True):
            out[member] = part.reshape(like[member].shape)
    return out


def _packs(arrays: Arrays) -> dict[str, list[str]]:
    """Return the name of each pack, and the names of the arrays in it, in order."""
    members: dict[str, list[str]] = {}
    for name in sorted(arrays):
        members.setdefault(str(arrays[name].dtype), []).append(name)
    packs = {}
    for dtype, names in members.items():
        content = "\n".join(f"{name} {tuple(arrays[name].shape)}" for name in names)
        packs[f"{dtype}_{hashlib.sha256(content.encode()).hexdigest()[:16]}"] = names
    return packs


def arrays_digest(arrays: Arrays) -> str:
    """Return the SHA-256 of named arrays: names, dtypes, shapes and values."""
    out = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        out.update(f"{name} {array.dtype} {array.shape}\n".encode())
        out.update(np.ascontiguousarray(array).data)
    return out.hexdigest()
