"""PyTorch checkpoints in and out, bit for bit.

    python -m eal_icnet_jax.convert from-torch IN.pth OUT_DIR
    python -m eal_icnet_jax.convert to-torch CHECKPOINT_DIR OUT.pth

`.safetensors` on either side needs no torch.
"""

import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.errors import UserError
from eal_icnet_jax.layers import Counter

LEAF_NAMES = (
    (r"\.(kernel|scale)$", ".weight"),
    (r"\.mean$", ".running_mean"),
    (r"\.var$", ".running_var"),
    (r"\.count$", ".num_batches_tracked"),
)
"""What every layer's parameters are called in PyTorch, after the model's own `TORCH_NAMES`."""

COUNTER_LIMIT = np.iinfo(np.int32).max


def _torch_name(path: str, table) -> str:
    for pattern, replacement in (*table, *LEAF_NAMES):
        path = re.sub(pattern, replacement, path)
    return path


def _transpose(value: np.ndarray, axes_4d: tuple[int, int, int, int]) -> np.ndarray:
    """Kernels between HWIO and OIHW, or between [in, out] and [out, in]."""
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(axes_4d))
    return np.ascontiguousarray(value.T) if value.ndim == 2 else value


def torch_variables(model: nnx.Module) -> dict[str, tuple[nnx.Variable, bool]]:
    """The variables that a PyTorch checkpoint holds, by PyTorch name.

    Each comes with whether its axes are in another order in PyTorch: kernels are, TSSA's
    temperature, `[heads, 1]` in both, is not.
    """
    table = models.architecture(model.spec.name).TORCH_NAMES
    state = nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))
    return {
        _torch_name(".".join(map(str, path)), table): (variable, path[-1] != "temperature")
        for path, variable in state
    }


def to_torch(model: nnx.Module) -> dict[str, np.ndarray]:
    """A model's weights under PyTorch's names and in its layouts.

    Args:
      model: from `models.create_model` or `from_torch`.

    Returns:
      PyTorch name to array, in sorted order: float32, and int64 for `num_batches_tracked`.
    """
    out = {}
    for name, (variable, transposed) in sorted(torch_variables(model).items()):
        value = np.asarray(variable[...])
        if isinstance(variable, Counter):
            value = value.astype(np.int64)
        out[name] = _transpose(value, (3, 2, 0, 1)) if transposed else value
    return out


def _problems(
    state_dict: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> list[str]:
    """Everything that keeps a PyTorch state_dict from filling a model, a line each."""
    found = [f"missing key {key}" for key in expected if key not in state_dict]
    found += [f"unexpected key {key}" for key in state_dict if key not in expected]
    for key, want in expected.items():
        if key not in state_dict:
            continue
        value = state_dict[key]
        if value.shape != want.shape:
            found.append(f"wrong shape of {key}: expected {want.shape}, found {value.shape}")
        elif want.dtype == np.int64:
            if not np.issubdtype(value.dtype, np.integer) or not 0 <= value <= COUNTER_LIMIT:
                found.append(f"{key} must be an integer from 0 to {COUNTER_LIMIT}, found {value}")
        elif not jnp.issubdtype(value.dtype, jnp.floating):
            found.append(f"wrong dtype of {key}: expected floating point, found {value.dtype}")
        elif bad := int(np.sum(~np.isfinite(value.astype(np.float32)))):
            found.append(f"non-finite values in {key}: {bad} of {value.size}")
    return found


def from_torch(
    state_dict: Mapping[str, np.ndarray], model: str = "eal_icnet", **options
) -> nnx.Module:
    """A model with the weights of a PyTorch state_dict.

    Args:
      state_dict: PyTorch name to array, in any floating dtype; `module.` prefixes are dropped.
      model: one of `models.MODELS`.
      **options: of `models.create_model`; `in_channels` and `classes` are read off the weights
        where they are not given.

    Returns:
      The model in evaluation mode, its parameters float32.

    Raises:
      UserError: names every missing key, unexpected key, wrong shape and non-finite value.
    """
    state_dict = {key.removeprefix("module."): np.asarray(v) for key, v in state_dict.items()}
    shapes = {key: value.shape for key, value in state_dict.items()}
    options = {**models.architecture(model).infer_options(shapes), **options}
    module = models.blank_model(model, **options)
    expected = to_torch(module)
    if problems := _problems(state_dict, expected):
        raise UserError(
            f"the weights do not fit model {model} with {module.spec.options_text()} "
            f"({len(problems)} problems):\n  " + "\n  ".join(problems)
        )
    for key, (variable, transposed) in torch_variables(module).items():
        value = state_dict[key].astype(variable.dtype)
        variable[...] = jnp.asarray(_transpose(value, (2, 3, 1, 0)) if transposed else value)
    module.eval()
    return module
