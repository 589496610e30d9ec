"""The number of devices that share a batch, for layers whose fast path depends on it."""

import contextlib
import contextvars

from eal_icnet_jax.layers.context import value_inside

_shards = contextvars.ContextVar("batch_shards", default=1)


def batch_sharded_over(devices: int) -> contextlib.AbstractContextManager[None]:
    """Trace layers for a batch whose first axis is sharded over several devices.

    It determines how layers sum over the batch, and changes results by rounding only.

    Args:
      devices: number of devices, a divisor of the batch size.
    """
    return value_inside(_shards, devices)


def batch_shards() -> int:
    """Return over how many devices the batch is sharded: 1 outside `batch_sharded_over`."""
    return _shards.get()
