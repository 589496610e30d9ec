"""Layers in the form that other runtimes optimise best: one operation of their own for each.

Our fast forms are for XLA on two CPU cores. What `eal-icnet export` writes is for compilers that
have fast forms of their own, and recognise a convolution or a softmax only as such.
"""

import contextlib
import contextvars

from eal_icnet_jax.layers.context import value_inside

_plain = contextvars.ContextVar("plain", default=False)


def plain_forms() -> contextlib.AbstractContextManager[None]:
    """Let all layers called inside take their plain form, whatever the platform."""
    return value_inside(_plain, True)


def takes_plain_forms() -> bool:
    """Return whether the code runs inside `plain_forms`."""
    return _plain.get()
