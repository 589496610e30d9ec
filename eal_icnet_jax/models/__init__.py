"""The networks, behind one constructor."""

import dataclasses
import importlib
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax.errors import UserError

EAL_ICNET = "https://github.com/chndaz/EAL-ICNet"
SMP = "https://github.com/qubvel-org/segmentation_models.pytorch"
HRNET = "https://github.com/HRNet/HRNet-Semantic-Segmentation"


class Source(NamedTuple):
    """A network's name in print, its paper's address or else its code's, and that of the code."""

    title: str
    paper: str
    code: str


MODELS = {
    "eal_icnet": Source("EAL-ICNet", EAL_ICNET, EAL_ICNET),
    "irdpnet": Source("IRDPNet", EAL_ICNET, EAL_ICNET),
    "edanet": Source("EDANet", "https://arxiv.org/abs/1809.06323", EAL_ICNET),
    "contextnet": Source("ContextNet", "https://arxiv.org/abs/1805.04554", EAL_ICNET),
    "esnet": Source("ESNet", "https://arxiv.org/abs/1906.09826", EAL_ICNET),
    "letnet": Source("LETNet", "https://github.com/IVIPLab/LETNet", EAL_ICNET),
    "fcn": Source(
        "FCN",
        "https://arxiv.org/abs/1411.4038",
        "https://github.com/bat67/pytorch-FCN-easiest-demo",
    ),
    "unet": Source("UNet", "https://arxiv.org/abs/1505.04597", EAL_ICNET),
    "hrnet_w18": Source("HRNet-W18", "https://arxiv.org/abs/1904.04514", HRNET),
    "hrnet_w48": Source("HRNet-W48", "https://arxiv.org/abs/1904.04514", HRNET),
    "manet": Source("MA-Net", "https://doi.org/10.1109/ACCESS.2020.3025372", SMP),
    "unetplusplus": Source("UNet++", "https://arxiv.org/abs/1807.10165", SMP),
}
"""What `create_model` takes; each is a module of this package with a class `Model`."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What rebuilds a model: its registered name and the options it was created with."""

    name: str
    options: tuple[tuple[str, object], ...]

    def to_json(self) -> dict:
        return {"name": self.name, "options": dict(self.options)}

    def options_text(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.options)


def _plain(value):
    """Options as JSON knows them, hashable."""
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def architecture(name: str):
    """The module that defines a network: its `Model`, `TORCH_NAMES` and `CHANNELS_AT`."""
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    return importlib.import_module(f"eal_icnet_jax.models.{name}")


def create_model(
    name: str, *, in_channels: int = 1, classes: int = 1, rngs: nnx.Rngs, **options
) -> nnx.Module:
    """Builds a network in training mode with fresh weights.

    Args:
      name: one of `MODELS`.
      in_channels: of the images `[B, H, W, in_channels]`.
      classes: logits per pixel, `[B, H, W, classes]`.
      rngs: `nnx.Rngs(seed)`.
      **options: those of the network's class, of JSON types; `dtype`, the dtype of the
        computation, may be a name such as "bfloat16".

    Raises:
      UserError: the name is unknown, or the network has no such option or value.
    """
    cls = architecture(name).Model
    known = [k for k in inspect.signature(cls.__init__).parameters if k not in ("rngs", "self")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f"model {name} has no option {', '.join(unknown)}: it takes {', '.join(known)}"
        )
    options = {"in_channels": in_channels, "classes": classes, **options}
    if "dtype" in options:
        options["dtype"] = jnp.dtype(options["dtype"]).name
    options = {key: _plain(value) for key, value in options.items()}
    arguments = dict(options, dtype=jnp.dtype(options.get("dtype", "float32")))
    try:
        model = cls(rngs=rngs, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"model {name} cannot be built with {options}: {error}") from error
    model.spec = ModelSpec(name, tuple(sorted(options.items())))
    return model


class _NoKeys(nnx.Rngs):
    """Random streams without keys for parameters, which spares tracing their initialisation."""

    def params(self):
        return None


def blank_model(name: str, **options) -> nnx.Module:
    """`create_model` with every array zero, at no cost: for weights that are about to be read."""
    abstract = nnx.eval_shape(lambda: create_model(name, rngs=_NoKeys(0), **options))

    def blank(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return np.zeros(leaf.shape, leaf.dtype)

    graphdef, state = nnx.split(abstract)
    return nnx.merge(graphdef, jax.tree.map(blank, state))


__all__ = ["MODELS", "ModelSpec", "architecture", "blank_model", "create_model"]
