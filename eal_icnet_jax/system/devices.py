"""Placement of arrays on the devices of one or several processes."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def data_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh of one axis, `data`, over which batches are sharded.

    Args:
      devices: by default all devices of all processes.
    """
    return Mesh(np.array(devices or jax.devices()), ("data",))


def replicated(tree):
    """Place a tree of arrays, equal in all processes, on every device of every process."""
    everywhere = NamedSharding(data_mesh(), PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)

    def place(array):
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(array)))
        return jax.make_array_from_process_local_data(everywhere, np.asarray(array))

    return jax.tree.map(place, tree)


def local_copy(tree):
    """Return a tree that `replicated` placed as arrays of this process only."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda array: array.addressable_data(0), tree)
