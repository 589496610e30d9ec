"""Weights that the package brings, for photographs of chips that no one has labelled."""

import dataclasses
import hashlib
import importlib.resources
import pathlib
from typing import TYPE_CHECKING, NamedTuple

from eal_icnet_jax.models.registry import Preprocessing
from eal_icnet_jax.system.errors import UserError

if TYPE_CHECKING:
    from eal_icnet_jax.models.network import Network


class PackagedWeights(NamedTuple):
    """Weights in the package.

    sha256: of the file, `weights/NAME.safetensors`, which has PyTorch's names and layouts.
    preprocessing: form of the images that the network was trained on.
    about: what they are for.
    """

    sha256: str
    preprocessing: Preprocessing
    about: str


KINDS = ("metal", "via")
"""What the outputs of the packaged networks are."""

PRETRAINED = {
    "optical": PackagedWeights(
        sha256="141fbd3ffd8b57aabf294f6d1acae522eda556f349833a2c1b7c62c374535c1d",
        preprocessing=Preprocessing((0.5, 99.5), 20.0, 384),
        about="photographs of an optical microscope",
    ),
    "sem": PackagedWeights(
        sha256="2ff4a07824e9f18b9684b7ba48eb546b49fd1e6abdc01253eb451ed7d30709cf",
        preprocessing=Preprocessing((0.5, 99.5), 20.0, 256),
        about="photographs of a scanning electron microscope",
    ),
}
"""The packaged weights by name. `docs/weights.md` says how they were trained and what they do."""


def weights_file(name: str) -> pathlib.Path:
    """Return the file of packaged weights."""
    folder = importlib.resources.files("eal_icnet_jax") / "weights"
    return pathlib.Path(str(folder / f"{name}.safetensors"))


def checked_weights_file(name: str) -> pathlib.Path:
    """Return the file of packaged weights, whose content is as it was packaged.

    Raises:
      UserError: as `load_pretrained`.
    """
    if name not in PRETRAINED:
        raise UserError(f"unknown weights {name!r}: choose one of {', '.join(PRETRAINED)}")
    path = weights_file(name)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: install the package again") from error
    if digest != PRETRAINED[name].sha256:
        raise UserError(f"{path} is not the file that was packaged: install the package again")
    return path


def load_pretrained(name: str, **overrides) -> "Network":
    """Load packaged weights: EAL-ICNet with the outputs metal and via, in evaluation mode.

    Args:
      name: a name of `PRETRAINED`, "optical" or "sem".
      **overrides: options of the model to change, such as `dtype="bfloat16"`.

    Returns:
      A model that maps images `[B, H, W, channels]` in [0, 1], prepared as
      `model.spec.preprocessing` says, to logits `[B, H, W, 2]`.

    Raises:
      UserError: the name is unknown, or the file is not the one that was packaged.
    """
    from eal_icnet_jax.models import torch_files, torch_weights

    state = torch_files.read_state_dict(checked_weights_file(name))
    model = torch_weights.from_torch(state, "eal_icnet", **overrides)
    preprocessing = PRETRAINED[name].preprocessing
    model.spec = dataclasses.replace(model.spec, preprocessing=preprocessing, outputs=KINDS)
    return model
