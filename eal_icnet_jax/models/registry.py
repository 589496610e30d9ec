"""The table of networks, and what identifies a network built from it. Imports no JAX."""

import dataclasses
import importlib
import types
from collections.abc import Sequence
from typing import NamedTuple

from eal_icnet_jax.system.errors import UserError

EAL_ICNET = "https://github.com/chndaz/EAL-ICNet"
SMP = "https://github.com/qubvel-org/segmentation_models.pytorch"
HRNET = "https://github.com/HRNet/HRNet-Semantic-Segmentation"


class ModelInfo(NamedTuple):
    """Title and sources of a network."""

    title: str
    """Name in print."""

    paper: str
    """Address of the paper, or of the code if the paper has none."""

    code: str
    """Address of the PyTorch code that the network follows."""


MODELS = {
    "eal_icnet": ModelInfo("EAL-ICNet", EAL_ICNET, EAL_ICNET),
    "irdpnet": ModelInfo("IRDPNet", EAL_ICNET, EAL_ICNET),
    "edanet": ModelInfo("EDANet", "https://arxiv.org/abs/1809.06323", EAL_ICNET),
    "contextnet": ModelInfo("ContextNet", "https://arxiv.org/abs/1805.04554", EAL_ICNET),
    "esnet": ModelInfo("ESNet", "https://arxiv.org/abs/1906.09826", EAL_ICNET),
    "letnet": ModelInfo("LETNet", "https://github.com/IVIPLab/LETNet", EAL_ICNET),
    "fcn": ModelInfo(
        "FCN",
        "https://arxiv.org/abs/1411.4038",
        "https://github.com/bat67/pytorch-FCN-easiest-demo",
    ),
    "unet": ModelInfo("UNet", "https://arxiv.org/abs/1505.04597", EAL_ICNET),
    "hrnet_w18": ModelInfo("HRNet-W18", "https://arxiv.org/abs/1904.04514", HRNET),
    "hrnet_w48": ModelInfo("HRNet-W48", "https://arxiv.org/abs/1904.04514", HRNET),
    "manet": ModelInfo("MA-Net", "https://doi.org/10.1109/ACCESS.2020.3025372", SMP),
    "unetplusplus": ModelInfo("UNet++", "https://arxiv.org/abs/1807.10165", SMP),
}
"""The networks by name. Each name is a module of this package with a class `Model`."""


SMALLEST_IMAGE = 32
"""Smallest height and width in pixels of an image that the networks take."""

LARGEST_WIRE_WIDTH = 1000
"""Bound in pixels of the width of wires that a network is trained for."""

SMALLEST_CROP, LARGEST_CROP = 32, 16384
"""Bounds in pixels of the side of the crops that a network is trained on."""


def are_percentiles(values: Sequence[float]) -> bool:
    """Return whether values can be two percentiles of levels, the lower one first."""
    return len(values) == 2 and 0 <= values[0] < values[1] <= 100


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The form of the images that a network was trained on.

    Attributes:
      stretch: percentiles of an image's levels that become black and white, decided once per image
        or mosaic; None leaves the levels.
      wire_width: typical width of the wires in pixels; 0 if the network was trained for no certain
        one.
      crop_size: side in pixels of the squares that it was trained on, with wires of that width; 0
        without such a width.
    """

    stretch: tuple[float, float] | None = None
    wire_width: float = 0
    crop_size: int = 0

    @classmethod
    def from_json(cls, values) -> "Preprocessing":
        """Return what `to_json` made of it.

        Raises:
          UserError: the values are out of range.
        """
        try:
            stretch = values["stretch"] and tuple(map(float, values["stretch"]))
            low, high = stretch or (0.0, 100.0)
            width = float(values["wire_width"])
            side = int(values["crop_size"])
            is_sound = (
                0 <= low < high <= 100
                and 0 <= width <= LARGEST_WIRE_WIDTH
                and (side == 0 or (width > 0 and SMALLEST_CROP <= side <= LARGEST_CROP))
                and side == values["crop_size"]
            )
        except (KeyError, TypeError, ValueError):
            is_sound = False
        if not is_sound:
            raise UserError(
                f"{str(values)[:200]} is no preprocessing of images: the checkpoint is damaged, or "
                "of another release"
            )
        return cls(stretch or None, width, side)

    def to_json(self) -> dict:
        """Return the values as JSON types."""
        return {
            "stretch": self.stretch and list(self.stretch),
            "wire_width": self.wire_width,
            "crop_size": self.crop_size,
        }


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Name and options from which `create_model` builds a network again.

    Attributes:
      name: a name of `MODELS`.
      options: pairs of an option and its value, sorted by option.
      preprocessing: form of the images that it was trained on.
      outputs: what each of its outputs is, such as "metal" and "via"; empty if it is not known.
    """

    name: str
    options: tuple[tuple[str, object], ...]
    preprocessing: Preprocessing = Preprocessing()
    outputs: tuple[str, ...] = ()

    def to_json(self) -> dict:
        """Return all of it as a dictionary of JSON types."""
        values = {"name": self.name, "options": dict(self.options)}
        if self.preprocessing != Preprocessing():
            values["preprocessing"] = self.preprocessing.to_json()
        if self.outputs:
            values["outputs"] = list(self.outputs)
        return values

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs; an output without a name is called by its number, from 1."""
        classes = int(str(dict(self.options)["classes"]))
        return self.outputs or tuple(map(str, range(1, classes + 1)))

    def mask_suffixes(self) -> tuple[str, ...]:
        """Return what is added to an image's name for each of its masks: nothing if it is one."""
        names = self.output_names
        return tuple(f"_{name}" for name in names) if len(names) > 1 else ("",)

    def options_text(self) -> str:
        """Return the options for messages: "classes=1, in_channels=3"."""
        return ", ".join(f"{key}={value}" for key, value in self.options)


def architecture(name: str) -> types.ModuleType:
    """Import the module that defines a network.

    Args:
      name: a name of `MODELS`.

    Returns:
      The module, with the class `Model` and the tables `TORCH_NAMES` and `CHANNELS_AT`.
      `TORCH_NAMES` are substitutions (pattern, replacement), applied in order, from our parameter
      paths to PyTorch's names. `CHANNELS_AT` maps `in_channels` and `classes` to the PyTorch name
      and the axis whose length they are. `ENCODER`, where present, is the prefix under which the
      weights of a published encoder belong among the PyTorch names.

    Raises:
      UserError: the name is unknown.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    return importlib.import_module(f"eal_icnet_jax.models.{name}")
