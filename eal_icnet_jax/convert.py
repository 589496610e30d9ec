"""PyTorch checkpoints in and out, bit for bit.

    python -m eal_icnet_jax.convert from-torch IN.pth OUT_DIR
    python -m eal_icnet_jax.convert to-torch CHECKPOINT_DIR OUT.pth

`.safetensors` on either side needs no torch.
"""

import argparse
import json
import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from eal_icnet_jax import checkpoints, models
from eal_icnet_jax.errors import UserError, command_parser, run_command
from eal_icnet_jax.files import whole
from eal_icnet_jax.layers import Counter

LEAF_NAMES = (
    (r"\.(kernel|transposed_kernel|scale)$", ".weight"),
    (r"\.mean$", ".running_mean"),
    (r"\.var$", ".running_var"),
    (r"\.count$", ".num_batches_tracked"),
)
"""What every layer's parameters are called in PyTorch, after the model's own `TORCH_NAMES`."""

LARGEST_HEADER = 2**24
"""Bytes of the header of a safetensors file; that of a thousand arrays has a hundred thousand."""

MOST_PROBLEMS = 1000
"""Of weights that do not fit, told a line each."""

COUNTER_LIMIT = np.iinfo(np.int32).max


def _torch_name(path: str, table) -> str:
    for pattern, replacement in (*table, *LEAF_NAMES):
        path = re.sub(pattern, replacement, path)
    return path


def _torch_axes(leaf: str, ndim: int) -> tuple[int, ...]:
    """Which of our axes each of PyTorch's is: spatial axes come last there, and `in` after `out`.

    `in` comes first in transposed convolutions; TSSA's temperature is `[heads, 1]` in both.
    """
    if ndim < 2 or leaf == "temperature":
        return tuple(range(ndim))
    channels = (ndim - 2, ndim - 1) if leaf == "transposed_kernel" else (ndim - 1, ndim - 2)
    return (*channels, *range(ndim - 2))


def torch_variables(model: nnx.Module) -> dict[str, tuple[nnx.Variable, tuple[int, ...]]]:
    """The variables that a PyTorch checkpoint holds, by PyTorch name.

    Each comes with its axes in PyTorch's order.
    """
    table = models.architecture(model.spec.name).TORCH_NAMES
    state = nnx.to_flat_state(nnx.state(model, checkpoints.WEIGHTS))
    return {
        _torch_name(".".join(map(str, path)), table): (
            variable,
            _torch_axes(path[-1], len(variable.shape)),
        )
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
    for name, (variable, axes) in sorted(torch_variables(model).items()):
        value = np.asarray(variable[...])
        if isinstance(variable, Counter):
            value = value.astype(np.int64)
        out[name] = np.array(value.transpose(axes), order="C")
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


def _channels(state_dict: Mapping[str, np.ndarray], model: str) -> dict[str, int]:
    """`in_channels` and `classes` of a PyTorch state_dict, as far as it shows them."""
    places = models.architecture(model).CHANNELS_AT.items()
    return {
        option: state_dict[key].shape[axis]
        for option, (key, axis) in places
        if key in state_dict and state_dict[key].ndim == 4
    }


def _fill(module: nnx.Module, state_dict: Mapping[str, np.ndarray]):
    """Gives a model the weights there are."""
    for key, (variable, axes) in torch_variables(module).items():
        if key in state_dict:
            value = state_dict[key].astype(variable.dtype)
            variable[...] = jnp.asarray(value.transpose(np.argsort(axes)))


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
    options = {**_channels(state_dict, model), **options}
    module = models.blank_model(model, **options)
    expected = to_torch(module)
    if problems := _problems(state_dict, expected):
        raise UserError(
            f"the weights do not fit model {model} with {module.spec.options_text()} "
            f"({len(problems)} problems):\n  " + "\n  ".join(problems[:MOST_PROBLEMS])
        )
    _fill(module, state_dict)
    module.eval()
    return module


def _fitted_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first kernel `[out, in, h, w]` for images of other channels, as segmentation_models_pytorch
    does: summed for grey images, else repeated in turn and scaled."""
    if channels == 1:
        return kernel.sum(1, keepdims=True)
    turns = kernel[:, np.arange(channels) % kernel.shape[1]]
    return turns * np.float32(kernel.shape[1] / channels)


def from_pretrained(
    state_dict: Mapping[str, np.ndarray], model: str, *, rngs: nnx.Rngs, **options
) -> tuple[nnx.Module, list[str]]:
    """A model that starts from published weights, of its encoder or of other images and classes.

    Args:
      state_dict: PyTorch name to array: torchvision's VGG-16 for `fcn`, EfficientNet-PyTorch's b0
        for `manet` and `unetplusplus`, or weights of the whole network; `module.` and `model.`
        prefixes are dropped.
      model: one of `models.MODELS`.
      rngs: for what the weights do not hold.
      **options: of `models.create_model`.

    Returns:
      The model in evaluation mode, and what was adapted, drawn or left out, a sentence each.

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
    told, fitting = [], {}
    if stem in given and given[stem].ndim == 4:
        kernel, channels = np.asarray(given[stem]), expected[stem].shape[1]
        if kernel.shape[1] != channels:
            told.append(f"{stem} is fitted from {kernel.shape[1]} channels to {channels}")
            given[stem] = _fitted_stem(kernel.astype(np.float32), channels)
    for key, value in given.items():
        if key in expected and np.shape(value) == expected[key].shape:
            fitting[key] = value
        elif key in expected:
            found = "x".join(map(str, np.shape(value)))
            told.append(f"{key} is drawn anew, the weights are for {found}")
    if stem not in fitting:
        raise UserError(
            f"these are not weights of {model} or its encoder: {stem} is not among the "
            f"{len(given)} arrays, or of another shape"
        )
    if problems := _problems(fitting, {key: expected[key] for key in fitting}):
        raise UserError("the weights cannot be used:\n  " + "\n  ".join(problems))
    if missing := [key for key in expected if key not in given]:
        told.append(f"{len(missing)} arrays are drawn anew, {missing[0]} first")
    if others := [key for key in given if key not in expected]:
        told.append(f"{len(others)} arrays belong elsewhere and are left out, {others[0]} first")
    module = models.create_model(model, rngs=rngs, **options)
    _fill(module, fitting)
    module.eval()
    return module, told


def _check_archive(path: pathlib.Path):
    """Refuses a zip archive that unpacks to more than it is; `torch.save` compresses nothing."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # of whatever its directory says
        raise UserError(f"{path} is damaged: copy it again") from error
    if sum(member.file_size for member in members) > path.stat().st_size or any(
        member.compress_type != zipfile.ZIP_STORED for member in members
    ):
        raise UserError(
            f"{path} unpacks to more than it holds, which no file of torch.save does: save the "
            "model's state_dict() alone with torch.save"
        )


def _array(tensor) -> np.ndarray:
    """A plain tensor's values; a `ValueError` where it claims more than its storage holds."""
    tensor = tensor.detach()
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError("a tensor repeats its values")
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _read_torch_file(path: pathlib.Path) -> dict:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"reading {path.name} needs torch: pip install 'eal-icnet-jax[torch]', or save the "
            "weights as .safetensors"
        ) from error
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a strange file is told below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of whatever the bytes happen to mean
        cause = next(iter(str(error).splitlines()), "the file is cut short")[:200]
        raise UserError(
            f"{path} is not a file of weights that is safe to load ({cause}): "
            "save the model's state_dict() alone with torch.save"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a state_dict: save the model's "
            "state_dict() with torch.save"
        )
    if others := [
        repr(key)[:80]
        for key, value in content.items()
        if not isinstance(value, torch.Tensor) or not isinstance(key, str)
    ]:
        raise UserError(
            f"{path} holds more than weights, under {', '.join(others[:5])}: put the state_dict "
            "under 'state_dict' or save it alone"
        )
    tensors = content.values()
    if sum(t.numel() * t.element_size() for t in tensors) > 2 * path.stat().st_size + 2**20:
        raise UserError(
            f"{path} says that it holds more than its size: save the model's state_dict() alone "
            "with torch.save"
        )
    try:
        return {key: _array(value) for key, value in content.items()}
    except Exception as error:  # of tensors that are sparse, quantized, or without values
        cause = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise UserError(
            f"{path} holds tensors that are no plain arrays ({cause}): save the model's "
            "state_dict() with torch.save"
        ) from error


def read_state_dict(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The weights of a `.safetensors` file, or of a PyTorch file of any other ending.

    PyTorch files may hold a bare state_dict or one under `state_dict` or `model`, in any precision
    and from any device; they load with `weights_only=True`, which runs no code of theirs.

    Raises:
      UserError: the file cannot be read, or is not a file of weights.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file: name a .pth or .safetensors file")
    if path.suffix != ".safetensors":
        return _read_torch_file(path)
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > LARGEST_HEADER:
            raise ValueError(f"its header has {header:,} bytes")
        return safetensors.numpy.load_file(path)
    except Exception as error:  # of whatever its header says
        cause = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise UserError(f"{path} is not a safetensors file that can be read: {cause}") from error


def write_state_dict(path: pathlib.Path, state_dict: Mapping[str, np.ndarray]):
    """Writes `.safetensors`, or a PyTorch file for any other ending, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            if path.suffix == ".safetensors":
                safetensors.numpy.save_file(dict(state_dict), partial)
            else:
                _write_torch(partial, state_dict)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be written: {error}") from error


def _write_torch(path: pathlib.Path, state_dict: Mapping[str, np.ndarray]):
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "writing a PyTorch file needs torch: pip install 'eal-icnet-jax[torch]', or name a "
            ".safetensors file"
        ) from error
    torch.save({key: torch.from_numpy(value.copy()) for key, value in state_dict.items()}, path)


def _refuse_existing(path: pathlib.Path, force: bool):
    if path.exists() and not force:
        raise UserError(f"{path} exists: name another output, or replace it with --force")


def parser() -> argparse.ArgumentParser:
    out = command_parser("convert", __doc__)
    commands = out.add_subparsers(dest="command", required=True)
    source = commands.add_parser("from-torch", help="PyTorch weights to a checkpoint directory")
    source.add_argument("input", type=pathlib.Path, help=".pth or .safetensors")
    source.add_argument("output", type=pathlib.Path, help="checkpoint directory to make")
    source.add_argument("--model", default="eal_icnet", help=", ".join(models.MODELS))
    source.add_argument(
        "--options", default="{}", help="the model's options, as JSON: '{\"heads\": 4}'"
    )
    source.add_argument(
        "--encoder-weights",
        action="store_true",
        help="the weights are of the model's encoder alone, or for other channels or classes: "
        "adapt them and draw the rest",
    )
    source.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    target = commands.add_parser("to-torch", help="a checkpoint to PyTorch weights")
    target.add_argument("input", help="checkpoint or work directory")
    target.add_argument("output", type=pathlib.Path, help=".pth or .safetensors to make")
    for command in (source, target):
        command.add_argument("--force", action="store_true", help="replace an existing output")
    return out


def run(arguments: argparse.Namespace):
    _refuse_existing(arguments.output, arguments.force)
    if arguments.command == "from-torch":
        try:
            options = json.loads(arguments.options)
            state_dict = read_state_dict(arguments.input)
            if arguments.encoder_weights:
                rngs = nnx.Rngs(arguments.seed)
                model, notes = from_pretrained(state_dict, arguments.model, rngs=rngs, **options)
                print("\n".join(notes))
            else:
                model = from_torch(state_dict, arguments.model, **options)
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(
                f"--options must be a JSON object of the model's options: {error}"
            ) from error
        checkpoints.save_model(arguments.output, model)
        told = f"{model.spec.name} with {model.spec.options_text()}"
    else:
        model = checkpoints.load_model(arguments.input)
        write_state_dict(arguments.output, to_torch(model))
        told = model.spec.name
    print(f"wrote {arguments.output}: {told}")


def main(argv: list[str] | None = None):
    run_command(parser(), run, argv)


if __name__ == "__main__":
    main()
