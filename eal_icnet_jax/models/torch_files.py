"""Files of PyTorch weights, read without running any of their code, and written."""

import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from eal_icnet_jax.models.torch_wrappings import find_state_dict, shown
from eal_icnet_jax.system.errors import UserError, first_line, os_error_cause
from eal_icnet_jax.system.files import atomic_file
from eal_icnet_jax.system.terminal import printable

LARGEST_HEADER = 2**24
"""Largest header of a safetensors file, in bytes. A thousand arrays take a hundred thousand."""


def _unsafe(path: pathlib.Path, cause: str) -> UserError:
    return UserError(
        f"{path} is not a file of weights that is safe to load ({cause}): save only the model's "
        "state_dict() with torch.save"
    )


def _check_archive(path: pathlib.Path):
    """Refuse a program, and a zip archive that unpacks to more than its size.

    `torch.save` compresses nothing.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # the directory of a stranger's archive can raise anything
        raise UserError(f"{path} is damaged: copy it again") from error
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise _unsafe(path, "it is a TorchScript program")
    if sum(member.file_size for member in members) > path.stat().st_size or any(
        member.compress_type != zipfile.ZIP_STORED for member in members
    ):
        raise UserError(
            f"{path} unpacks to more than it holds, which no file of torch.save does: save only "
            "the model's state_dict() with torch.save"
        )


class _Unread:
    """Stands for a NumPy value of a pickle. Takes what the pickle gives it, and keeps nothing."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass


NUMPY_STAND_INS = [
    type(name, (_Unread,), {"__module__": module})
    for module, names in {
        "numpy": ("dtype", "ndarray"),
        "numpy.core.multiarray": ("scalar", "_reconstruct"),
        "numpy._core.multiarray": ("scalar", "_reconstruct"),
    }.items()
    for name in names
]
"""What torch puts in the place of NumPy's scalars and arrays beside the weights. Torch calls
functions of NumPy only if they are declared safe, but they have been written for honest pickles; so
these classes bear their names, and no function of NumPy is called."""


def _array(tensor) -> np.ndarray:
    """Return a tensor's values; raise a `ValueError` if it claims more than its storage holds."""
    tensor = tensor.detach()
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError("a tensor repeats its values")
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _import_torch(action: str, alternative: str):
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{action} needs torch: pip install 'eal-icnet-jax[torch]', or {alternative}"
        ) from error
    return torch


def _cause(error: Exception) -> str:
    """Say in our words why torch does not load a file; its own text advises to load it unsafely."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+) (was not an allowed global|whose module)", text):
        return f"besides tensors and numbers it holds {printable(found[1])[:80]}"
    if re.search(r"must be \S+ to load|for unrecognized function|Can only", text):
        return "it holds more than tensors and numbers"
    return "it is damaged or not from torch.save"


def _load(path: pathlib.Path, torch) -> Mapping:
    """Load what a PyTorch file holds, without running any of its code."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(NUMPY_STAND_INS):
            warnings.simplefilter("ignore")  # the error below says what is wrong
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's file can raise anything
        raise _unsafe(path, _cause(error)) from error
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a state_dict: save the model's "
            "state_dict() with torch.save"
        )
    return content


def _read_torch_file(path: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    torch = _import_torch(f"reading {path.name}", "save the weights as .safetensors")
    _check_archive(path)
    content, notes = find_state_dict(
        _load(path, torch), lambda value: isinstance(value, torch.Tensor), str(path)
    )
    size = sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    if size > 2 * path.stat().st_size + 2**20:
        raise UserError(
            f"{path} claims to hold more than its size: save only the model's state_dict() with "
            "torch.save"
        )
    arrays = {}
    for key, value in content.items():
        try:
            arrays[key] = _array(value)
        except Exception as error:  # tensors may be sparse, quantized, or without values
            raise UserError(
                f"{path} holds tensors that are not plain arrays, {shown(key)} first: save the "
                "model's state_dict() with torch.save"
            ) from error
    return arrays, notes


def _is_safetensors(path: pathlib.Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def read_with_notes(path: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read the weights of a `.safetensors` file, or of a PyTorch file with any other ending.

    A PyTorch file may hold a state_dict, in any precision and from any device, or a checkpoint of
    any training with one state_dict. Weights averaged over steps, under a name with `ema` or `swa`,
    are taken only if there are no others. The file is loaded with `weights_only=True`, which runs
    none of its code.

    Returns:
      Arrays by PyTorch name, where floating-point tensors of PyTorch files become float32; and
      sentences about what was left out.

    Raises:
      UserError: the file cannot be read, or does not hold the weights of one network.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file: name a .pth or .safetensors file")
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {os_error_cause(error)}; name another file"
        ) from error
    if not _is_safetensors(path):
        return _read_torch_file(path)
    try:
        if header > LARGEST_HEADER:
            raise ValueError(f"its header has {header:,} bytes")
        return safetensors.numpy.load_file(path), []
    except Exception as error:  # the header of a stranger's file can raise anything
        raise UserError(
            f"{path} is not a safetensors file that can be read: {first_line(error)}"
        ) from error


def read_state_dict(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read the weights of a file as `read_with_notes` does, and return them alone.

    Raises:
      UserError: as `read_with_notes`.
    """
    return read_with_notes(path)[0]


def write_state_dict(path: pathlib.Path, state_dict: Mapping[str, np.ndarray]):
    """Write `.safetensors`, or a PyTorch file for any other ending, completely or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            if _is_safetensors(path):
                # `save_file` would let nobody else read the file.
                partial.write_bytes(safetensors.numpy.save(dict(state_dict)))
                return
            torch = _import_torch("writing a PyTorch file", "name a .safetensors file")
            tensors = {name: torch.from_numpy(array.copy()) for name, array in state_dict.items()}
            torch.save(tensors, partial)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be written: {error}") from error
