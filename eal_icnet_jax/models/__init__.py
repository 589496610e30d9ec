"""The networks behind one constructor, their weights and checkpoints.

Importing this package does not import JAX: `create_model` and `blank_model` are loaded when they
are first used.
"""

from typing import TYPE_CHECKING

from eal_icnet_jax.models.registry import MODELS, ModelInfo, ModelSpec, architecture

if TYPE_CHECKING:
    from eal_icnet_jax.models.creation import blank_model, create_model

__all__ = ["MODELS", "ModelInfo", "ModelSpec", "architecture", "blank_model", "create_model"]


def __getattr__(name: str):
    if name not in ("blank_model", "create_model"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from eal_icnet_jax.models import creation

    return getattr(creation, name)


def __dir__():
    return sorted({*globals(), *__all__})
