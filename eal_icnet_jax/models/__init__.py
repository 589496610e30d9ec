"""The networks behind one constructor, their weights and checkpoints.

Importing this package does not import JAX: what needs it is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

from eal_icnet_jax.models.registry import MODELS, ModelInfo, ModelSpec, architecture

if TYPE_CHECKING:
    from eal_icnet_jax.models.creation import blank_model, create_model
    from eal_icnet_jax.models.pretrained import load_pretrained

__all__ = [
    "MODELS",
    "ModelInfo",
    "ModelSpec",
    "architecture",
    "blank_model",
    "create_model",
    "load_pretrained",
]

_MODULE_OF = {
    "blank_model": "creation",
    "create_model": "creation",
    "load_pretrained": "pretrained",
}


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
