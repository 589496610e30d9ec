"""PyTorch state_dicts to models and back, bit for bit."""

import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.layers import Counter
from eal_icnet_jax.models.named_arrays import WEIGHTS
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.system.errors import UserError

LEAF_NAMES = (
    (r"\.(kernel|transposed_kernel|scale)$", ".weight"),
    (r"\.mean$", ".running_mean"),
    (r"\.var$", ".running_var"),
    (r"\.count$", ".num_batches_tracked"),
)
"""PyTorch's names of every layer's parameters, applied after the model's own `TORCH_NAMES`."""

MOST_PROBLEMS = 1000
"""Number of misfits that an error message lists at most."""

COUNTER_LIMIT = np.iinfo(np.int32).max
"""Largest value of `num_batches_tracked` that fits our int32 counter."""


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


def _value_problem(key: str, value: np.ndarray, expected: np.ndarray) -> str | None:
    """Return what keeps a value from filling a variable, or None."""
    if value.shape != expected.shape:
        return f"wrong shape of {key}: expected {expected.shape}, found {value.shape}"
    if expected.dtype == np.int64:
        if not np.issubdtype(value.dtype, np.integer) or not 0 <= value <= COUNTER_LIMIT:
            return f"{key} must be an integer from 0 to {COUNTER_LIMIT}, found {value}"
    elif not jnp.issubdtype(value.dtype, jnp.floating):
        return f"wrong dtype of {key}: expected floating point, found {value.dtype}"
    elif count := int(np.sum(~np.isfinite(value.astype(np.float32)))):
        return f"non-finite values in {key}: {count} of {value.size}"
    return None


def _problems(
    state_dict: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> list[str]:
    """Return everything that keeps a state_dict from filling a model."""
    out = [f"missing key {key}" for key in expected if key not in state_dict]
    out += [f"unexpected key {key}" for key in state_dict if key not in expected]
    values = (
        _value_problem(key, state_dict[key], want)
        for key, want in expected.items()
        if key in state_dict
    )
    return out + [problem for problem in values if problem]


def _channels(state_dict: Mapping[str, np.ndarray], model: str) -> dict[str, int]:
    """Read `in_channels` and `classes` off a state_dict, as far as it shows them."""
    places = models.architecture(model).CHANNELS_AT.items()
    return {
        option: state_dict[key].shape[axis]
        for option, (key, axis) in places
        if key in state_dict and state_dict[key].ndim == 4
    }


def _fill(module: Network, state_dict: Mapping[str, np.ndarray]):
    """Give a model the weights that the state_dict has."""
    for key, (variable, axes) in torch_variables(module).items():
        if key in state_dict:
            value = state_dict[key].astype(variable.dtype)
            variable[...] = jnp.asarray(value.transpose(np.argsort(axes)))


def from_torch(
    state_dict: Mapping[str, np.ndarray], model: str = "eal_icnet", **options
) -> Network:
    """Return a model with the weights of a PyTorch state_dict.

    Args:
      state_dict: arrays by PyTorch name, in any floating dtype; `module.` prefixes are dropped.
      model: a name of `models.MODELS`.
      **options: of `create_model`; `in_channels` and `classes` are read off the weights by default.

    Returns:
      The model in evaluation mode, with float32 parameters.

    Raises:
      UserError: names every missing key, unexpected key, wrong shape and non-finite value.
    """
    state_dict = {key.removeprefix("module."): np.asarray(v) for key, v in state_dict.items()}
    options = {**_channels(state_dict, model), **options}
    module = models.blank_model(model, **options)
    if problems := _problems(state_dict, to_torch(module)):
        raise UserError(
            f"the weights do not fit model {model} with {module.spec.options_text()} "
            f"({len(problems)} problems):\n  " + "\n  ".join(problems[:MOST_PROBLEMS])
        )
    _fill(module, state_dict)
    module.eval()
    return module


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
        kernel, channels = np.asarray(given[stem]), expected[stem].shape[1]
        if kernel.shape[1] != channels:
            notes.append(f"{stem} is adapted from {kernel.shape[1]} channels to {channels}")
            given = {**given, stem: _adapted_stem(kernel.astype(np.float32), channels)}
    for key, value in given.items():
        if key in expected and np.shape(value) == expected[key].shape:
            fitting[key] = value
        elif key in expected:
            shape = "x".join(map(str, np.shape(value)))
            notes.append(f"{key} is initialised, because the weights have the shape {shape}")
    return fitting, notes


def from_pretrained(
    state_dict: Mapping[str, np.ndarray], model: str, *, rngs: nnx.Rngs, **options
) -> tuple[Network, list[str]]:
    """Return a model that starts from published weights.

    Args:
      state_dict: arrays by PyTorch name: torchvision's VGG-16 for `fcn`, EfficientNet-PyTorch's b0
        for `manet` and `unetplusplus`, or weights of the whole network for other channels or
        classes. `module.` and `model.` prefixes are dropped.
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
    given = {re.sub(r"^(module\.|model\.)+", "", key): v for key, v in state_dict.items()}
    encoder = getattr(architecture, "ENCODER", "")
    if not any(key.startswith(encoder) for key in given):
        given = {encoder + key: value for key, value in given.items()}
    expected = to_torch(models.blank_model(model, **options))
    stem, _ = architecture.CHANNELS_AT["in_channels"]
    fitting, notes = _fitting_weights(given, expected, stem)
    if stem not in fitting:
        raise UserError(
            f"these are not weights of {model} or its encoder: {stem} is not among the "
            f"{len(given)} arrays, or has another shape"
        )
    if problems := _problems(fitting, {key: expected[key] for key in fitting}):
        raise UserError("the weights cannot be used:\n  " + "\n  ".join(problems))
    if missing := [key for key in expected if key not in given]:
        notes.append(f"{len(missing)} arrays are initialised, {missing[0]} first")
    if others := [key for key in given if key not in expected]:
        notes.append(f"{len(others)} arrays belong elsewhere and are left out, {others[0]} first")
    module = models.create_model(model, rngs=rngs, **options)
    _fill(module, fitting)
    module.eval()
    return module, notes
