"""Files of PyTorch weights, read without running any of their code, and written."""

import pathlib
import warnings
import zipfile
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from eal_icnet_jax.system.errors import UserError, first_line
from eal_icnet_jax.system.files import atomic_file

LARGEST_HEADER = 2**24
"""Largest header of a safetensors file, in bytes. A thousand arrays take a hundred thousand."""


def _check_archive(path: pathlib.Path):
    """Refuse a zip archive that unpacks to more than its size; `torch.save` compresses nothing."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # the directory of a stranger's archive can raise anything
        raise UserError(f"{path} is damaged: copy it again") from error
    if sum(member.file_size for member in members) > path.stat().st_size or any(
        member.compress_type != zipfile.ZIP_STORED for member in members
    ):
        raise UserError(
            f"{path} unpacks to more than it holds, which no file of torch.save does: save only "
            "the model's state_dict() with torch.save"
        )


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


def _tensors(path: pathlib.Path, torch) -> Mapping:
    """Load the tensors of a PyTorch file, from under `state_dict` or `model` if they are there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below says what is wrong
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's file can raise anything
        cause = first_line(error).split(". ")[0]  # what follows advises to load it unsafely
        raise UserError(
            f"{path} is not a file of weights that is safe to load ({cause}): save only the "
            "model's state_dict() with torch.save"
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
            "under 'state_dict' or save nothing else"
        )
    return content


def _read_torch_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    torch = _import_torch(f"reading {path.name}", "save the weights as .safetensors")
    _check_archive(path)
    content = _tensors(path, torch)
    size = sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    if size > 2 * path.stat().st_size + 2**20:
        raise UserError(
            f"{path} claims to hold more than its size: save only the model's state_dict() with "
            "torch.save"
        )
    try:
        return {key: _array(value) for key, value in content.items()}
    except Exception as error:  # tensors may be sparse, quantized, or without values
        raise UserError(
            f"{path} holds tensors that are not plain arrays ({first_line(error)}): save the "
            "model's state_dict() with torch.save"
        ) from error


def read_state_dict(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read the weights of a `.safetensors` file, or of a PyTorch file with any other ending.

    A PyTorch file may hold a state_dict, or one under `state_dict` or `model`, in any precision and
    from any device. It is loaded with `weights_only=True`, which runs none of its code.

    Returns:
      Arrays by PyTorch name; floating-point tensors of PyTorch files become float32.

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
    except Exception as error:  # the header of a stranger's file can raise anything
        raise UserError(
            f"{path} is not a safetensors file that can be read: {first_line(error)}"
        ) from error


def write_state_dict(path: pathlib.Path, state_dict: Mapping[str, np.ndarray]):
    """Write `.safetensors`, or a PyTorch file for any other ending, completely or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            if path.suffix == ".safetensors":
                safetensors.numpy.save_file(dict(state_dict), partial)
                return
            torch = _import_torch("writing a PyTorch file", "name a .safetensors file")
            tensors = {name: torch.from_numpy(array.copy()) for name, array in state_dict.items()}
            torch.save(tensors, partial)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be written: {error}") from error
