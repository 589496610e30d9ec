"""PyTorch state_dicts to models and back, bit for bit."""

import re
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.layers import Counter
from eal_icnet_jax.models.named_arrays import WEIGHTS
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.models.torch_misfits import (
    MOST_LINES,
    Misfit,
    advice_for,
    counts,
    foreign_names,
    message,
    misfits,
)
from eal_icnet_jax.models.torch_wrappings import network_names, shown, unwrapped
from eal_icnet_jax.system.errors import UserError

LEAF_NAMES = (
    (r"\.(kernel|transposed_kernel|scale)$", ".weight"),
    (r"\.mean$", ".running_mean"),
    (r"\.var$", ".running_var"),
    (r"\.count$", ".num_batches_tracked"),
)
"""PyTorch's names of every layer's parameters, applied after the model's own `TORCH_NAMES`."""


def _torch_name(path: str, table) -> str:
    for pattern, replacement in (*table, *LEAF_NAMES):
        path = re.sub(pattern, replacement, path)
    return path


def _torch_axes(leaf: str, ndim: int) -> tuple[int, ...]:
    """Return, for each of PyTorch's axes, the index of our axis.

    PyTorch has the spatial axes last, and the output channels before the input channels except in
    transposed convolutions. TSSA's temperature is `[heads, 1]` in both.
    """
    if ndim < 2 or leaf == "temperature":
        return tuple(range(ndim))
    channels = (ndim - 2, ndim - 1) if leaf == "transposed_kernel" else (ndim - 1, ndim - 2)
    return (*channels, *range(ndim - 2))


def torch_variables(model: Network) -> dict[str, tuple[nnx.Variable, tuple[int, ...]]]:
    """Return the variables that a PyTorch checkpoint holds, by PyTorch name.

    Each comes with its axes in PyTorch's order.
    """
    table = models.architecture(model.spec.name).TORCH_NAMES
    state = nnx.to_flat_state(nnx.state(model, WEIGHTS))
    return {
        _torch_name(".".join(map(str, path)), table): (
            variable,
            _torch_axes(str(path[-1]), len(variable.shape)),
        )
        for path, variable in state
    }


def to_torch(model: Network) -> dict[str, np.ndarray]:
    """Return a model's weights under PyTorch's names and in its layouts.

    Args:
      model: from `create_model`, `load_model` or `from_torch`.

    Returns:
      Arrays by PyTorch name, sorted: float32, and int64 for `num_batches_tracked`.
    """
    out = {}
    for name, (variable, axes) in sorted(torch_variables(model).items()):
        value = np.asarray(variable[...])
        if isinstance(variable, Counter):
            value = value.astype(np.int64)
        out[name] = np.array(value.transpose(axes), order="C")
    return out


def _channels(state_dict: Mapping[str, np.ndarray], model: str) -> dict[str, int]:
    """Read `in_channels` and `classes` off a state_dict, as far as it shows them."""
    places = models.architecture(model).CHANNELS_AT.items()
    return {
        option: state_dict[key].shape[axis]
        for option, (key, axis) in places
        if getattr(state_dict.get(key), "ndim", 0) == 4 and state_dict[key].size
    }


def _fill(module: Network, state_dict: Mapping[str, np.ndarray]):
    """Give a model the weights that the state_dict has."""
    variables = torch_variables(module)
    values = {
        key: state_dict[key].astype(variable.dtype).transpose(np.argsort(axes))
        for key, (variable, axes) in variables.items()
        if key in state_dict
    }
    for key, value in jax.device_put(values).items():  # all at once: each call takes its time
        variables[key][0].set_value(value)


def _fitting_network(state_dict: Mapping[str, np.ndarray], but: str) -> str | None:
    """Return the name of another network that a state_dict fills completely, or None."""
    for name in models.MODELS:
        ends = tuple(key for key, _ in models.architecture(name).CHANNELS_AT.values())
        if name == but or not any(str(key).endswith(ends) for key in state_dict):
            continue
        names = torch_variables(models.blank_model(name))
        given, _ = unwrapped(state_dict, names)
        if given.keys() == names.keys():
            expected = to_torch(models.blank_model(name, **_channels(given, name)))
            if not misfits(given, expected):
                return name
    return None


def _refusal(state_dict, given, module: Network, found: list[Misfit]) -> UserError:
    """Return the error for weights that do not fit, with the likely cause."""
    name, names = module.spec.name, torch_variables(module).keys()
    start = f"the weights do not fit model {name} with {module.spec.options_text()}"
    if not given:
        return UserError(f"{start} (there are no arrays among them): give a network's state_dict()")
    if other := _fitting_network(state_dict, but=name):
        return UserError(f"{start} (these are weights of {other}): name --model={other}")
    encoder = getattr(models.architecture(name), "ENCODER", "")
    known = names & network_names(given, names, encoder).values()
    if encoder and known and all(key.startswith(encoder) for key in known):
        return UserError(f"{start} (these are weights of its encoder alone): add --encoder-weights")
    if not known:
        cause, advice = foreign_names(given)
        return UserError(message(f"{start} ({cause}): {advice}", found))
    return UserError(message(f"{start} ({counts(found, len(names))}): {advice_for(found)}", found))


def from_torch_with_notes(
    state_dict: Mapping[str, np.ndarray], model: str = "eal_icnet", **options
) -> tuple[Network, list[str]]:
    """Return what `from_torch` returns, and sentences about what was left out or added.

    Args and errors are those of `from_torch`.
    """
    module = models.blank_model(model, **{**_channels(state_dict, model), **options})
    given, notes = unwrapped(state_dict, torch_variables(module))
    options = {**_channels(given, model), **options}
    if not options.items() <= dict(module.spec.options).items():  # the names were wrapped
        module = models.blank_model(model, **options)
    if found := misfits(given, to_torch(module)):
        raise _refusal(state_dict, given, module, found)
    _fill(module, given)
    module.eval()
    return module, notes


def from_torch(
    state_dict: Mapping[str, np.ndarray], model: str = "eal_icnet", **options
) -> Network:
    """Return a model with the weights of a PyTorch state_dict.

    Args:
      state_dict: arrays by PyTorch name, in any floating dtype. Components that all names share and
        that are not the network's are dropped, such as `module.`, `_orig_mod.` and `model.`, and so
        are those of wrappers further inside. Counts of thop, texts and numbers are left out.
        Counters of batches that are absent, as in old files, become 0.
      model: a name of `models.MODELS`.
      **options: of `create_model`; `in_channels` and `classes` are read off the weights by default.

    Returns:
      The model in evaluation mode, with float32 parameters.

    Raises:
      UserError: a key is missing or unexpected, or a shape, type or value does not fit. Says why,
        and names some of each in ten lines at most.
    """
    return from_torch_with_notes(state_dict, model, **options)[0]


def _adapted_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapt a first kernel `[out, in, h, w]` to images of other channels.

    As segmentation_models_pytorch does: summed for grey images, otherwise repeated and scaled.
    """
    if channels == 1:
        return kernel.sum(1, keepdims=True)
    repeated = kernel[:, np.arange(channels) % kernel.shape[1]]
    return repeated * np.float32(kernel.shape[1] / channels)


def _fitting_weights(given: dict, expected: Mapping[str, np.ndarray], stem: str):
    """Return the weights that fit, with the stem adapted, and a note for each change."""
    notes, fitting = [], {}
    if stem in given and given[stem].ndim == 4:
        kernel, channels = given[stem], expected[stem].shape[1]
        if kernel.shape[1] != channels:
            notes.append(f"{stem} is adapted from {kernel.shape[1]} channels to {channels}")
            given = {**given, stem: _adapted_stem(kernel.astype(np.float32), channels)}
    for key, value in given.items():
        if key in expected and value.shape == expected[key].shape:
            fitting[key] = value
        elif key in expected:
            shape = "x".join(map(str, value.shape))
            notes.append(f"{key} is initialised, because the weights have the shape {shape}")
    if len(notes) > MOST_LINES:
        notes[MOST_LINES - 1 :] = [f"... and {len(notes) - MOST_LINES + 1} more"]
    return fitting, notes


def _check_pretrained(state_dict, given, fitting, expected, model: str):
    """Refuse weights that lack the first kernel, or hold what does not fit."""
    stem, _ = models.architecture(model).CHANNELS_AT["in_channels"]
    start = f"these are not weights of {model} or its encoder"
    if stem not in fitting:
        if other := _fitting_network(state_dict, but=model):
            raise UserError(f"{start} (these are weights of {other}): name --model={other}")
        cause = f"{stem} is not among the {len(given)} arrays, or has another shape"
        advice = "name the network with --model"
        if given and not given.keys() & expected.keys():
            cause, advice = foreign_names(given)
        raise UserError(f"{start} ({cause}): {advice}")
    if found := misfits(fitting, {key: expected[key] for key in fitting}):
        start = f"the weights cannot be used ({counts(found, len(expected))}): {advice_for(found)}"
        raise UserError(message(start, found))


def from_pretrained(
    state_dict: Mapping[str, np.ndarray], model: str, *, rngs: nnx.Rngs, **options
) -> tuple[Network, list[str]]:
    """Return a model that starts from published weights.

    Args:
      state_dict: arrays by PyTorch name: torchvision's VGG-16 for `fcn`, EfficientNet-PyTorch's b0
        for `manet` and `unetplusplus`, or weights of the whole network for other channels or
        classes. What surrounds names and weights is dropped as in `from_torch`.
      model: a name of `models.MODELS`.
      rngs: for the parameters that the weights do not have.
      **options: of `create_model`.

    Returns:
      The model in evaluation mode, and a sentence for each array that was adapted, initialised or
      left out.

    Raises:
      UserError: the weights are not of this network, or hold non-finite values.
    """
    architecture = models.architecture(model)
    expected = to_torch(models.blank_model(model, **options))
    given, notes = unwrapped(state_dict, expected, getattr(architecture, "ENCODER", ""))
    stem, _ = architecture.CHANNELS_AT["in_channels"]
    fitting, changes = _fitting_weights(given, expected, stem)
    _check_pretrained(state_dict, given, fitting, expected, model)
    notes += changes
    if missing := [key for key in expected if key not in given]:
        notes.append(f"{len(missing)} arrays are initialised, {missing[0]} first")
    if others := [key for key in given if key not in expected]:
        notes.append(
            f"{len(others)} arrays belong elsewhere and are left out, {shown(others[0])} first"
        )
    module = models.create_model(model, rngs=rngs, **options)
    _fill(module, fitting)
    module.eval()
    return module, notes
