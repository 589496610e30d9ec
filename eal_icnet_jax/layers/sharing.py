"""On how many devices a batch lies, for layers that compute something of each part."""

import contextlib
import contextvars
from collections.abc import Iterator

_devices = contextvars.ContextVar("devices", default=1)


@contextlib.contextmanager
def shared_by(devices: int) -> Iterator[None]:
    """Layers traced inside take the first axis of their arrays for shared by so many devices.

    It says how sums over a batch are best made, and changes them by roundings alone.

    Args:
      devices: a divisor of the batch.
    """
    token = _devices.set(devices)
    try:
        yield
    finally:
        _devices.reset(token)


def sharing() -> int:
    """How many devices share a batch: 1 outside `shared_by`."""
    return _devices.get()
