"""Context variables that say how layers are traced."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TypeVar

Value = TypeVar("Value")


@contextlib.contextmanager
def value_inside(variable: contextvars.ContextVar[Value], value: Value) -> Iterator[None]:
    """Give a context variable a value for what is called inside."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
