"""EAL-ICNet in JAX: segmentation of integrated-circuit micrographs.

Every public name is listed in `__all__` and imported when it is first used, so that importing the
package is quick and changes nothing in the calling process.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eal_icnet_jax.evaluation.electrical import ElectricalDifferences
    from eal_icnet_jax.evaluation.metrics import (
        aggregated_jaccard,
        electrically_significant_differences,
        evaluate_masks,
        net_differences,
    )
    from eal_icnet_jax.evaluation.stack_differences import NetDifferences
    from eal_icnet_jax.imaging.mosaic_files import open_mosaic
    from eal_icnet_jax.inference.image_prediction import ImagePredictor
    from eal_icnet_jax.inference.predictor import Predictor
    from eal_icnet_jax.models.checkpoints import load_model, save_model
    from eal_icnet_jax.models.creation import create_model
    from eal_icnet_jax.models.losses import bce_dice_loss
    from eal_icnet_jax.models.pretrained import load_pretrained
    from eal_icnet_jax.models.registry import MODELS
    from eal_icnet_jax.models.torch_weights import from_pretrained, from_torch, to_torch
    from eal_icnet_jax.system.errors import UserError
    from eal_icnet_jax.vector.layout_files import write_layout
    from eal_icnet_jax.vector.layout_options import ShapeOptions

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "ElectricalDifferences",
    "ImagePredictor",
    "NetDifferences",
    "Predictor",
    "ShapeOptions",
    "UserError",
    "aggregated_jaccard",
    "bce_dice_loss",
    "create_model",
    "electrically_significant_differences",
    "evaluate_masks",
    "from_pretrained",
    "from_torch",
    "load_model",
    "load_pretrained",
    "net_differences",
    "open_mosaic",
    "save_model",
    "to_torch",
    "write_layout",
]

_MODULES = {
    "evaluation.electrical": ("ElectricalDifferences",),
    "evaluation.metrics": (
        "aggregated_jaccard",
        "electrically_significant_differences",
        "evaluate_masks",
        "net_differences",
    ),
    "evaluation.stack_differences": ("NetDifferences",),
    "imaging.mosaic_files": ("open_mosaic",),
    "inference.image_prediction": ("ImagePredictor",),
    "inference.predictor": ("Predictor",),
    "models.registry": ("MODELS",),
    "models.checkpoints": ("load_model", "save_model"),
    "models.creation": ("create_model",),
    "models.losses": ("bce_dice_loss",),
    "models.pretrained": ("load_pretrained",),
    "models.torch_weights": ("from_pretrained", "from_torch", "to_torch"),
    "system.errors": ("UserError",),
    "vector.layout_files": ("write_layout",),
    "vector.layout_options": ("ShapeOptions",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
