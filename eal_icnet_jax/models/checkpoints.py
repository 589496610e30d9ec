"""Models as checkpoint directories, whether trained or converted from PyTorch.

`eal_icnet_jax.models.checkpoint_files` describes what a directory holds. A work directory has its
checkpoints under `checkpoints/<step>`.
"""

import dataclasses
import os
import pathlib
import re
import shutil

import jax
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.models.checkpoint_files import (
    is_checkpoint,
    read_arrays,
    read_metadata,
    step_directories,
    write_checkpoint,
    write_error_cause,
)
from eal_icnet_jax.models.named_arrays import weight_arrays, with_arrays
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.models.pretrained import PRETRAINED, load_pretrained
from eal_icnet_jax.models.registry import Preprocessing
from eal_icnet_jax.system import files
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.terminal import warn

LARGEST_OPTION = 2**16
"""Largest number among the options of a network that a checkpoint names."""

LONGEST_SPEC = 10_000
"""Largest number of characters in the name and options of such a network."""


def resolve(path: str | os.PathLike) -> pathlib.Path:
    """Return the checkpoint directory that a user means.

    Args:
      path: a checkpoint directory, or a work directory, whose best checkpoint is taken.

    Raises:
      UserError: there is none.
    """
    path = pathlib.Path(path).expanduser().absolute()
    if is_checkpoint(path):
        return path
    for directory in (path / "checkpoints", path):
        if steps := step_directories(directory):
            return steps[_best_step(steps)]
    raise UserError(
        f"{path} holds no checkpoint: name a work directory of a training, one of its "
        "checkpoints/<step>, or the output of `eal-icnet convert from-torch`"
    )


def _best_step(steps: dict[int, pathlib.Path]) -> int:
    """Return the step of the best checkpoint, which the latest readable metadata names."""
    *later, first = sorted(steps, reverse=True)
    for step in later:
        try:
            metadata = read_metadata(steps[step])
            break
        except UserError as error:
            warn(f"{error}")
    else:
        step, metadata = first, read_metadata(steps[first])
    best = metadata.get("early_stopping", {}).get("best_step")
    return best if best in steps else step


def _largest_number(tree) -> float:
    leaves = jax.tree.leaves(tree)
    return max((abs(leaf) for leaf in leaves if isinstance(leaf, int | float)), default=0)


def _checked_outputs(outputs, classes: int) -> tuple[str, ...]:
    """Return the names of a stranger's outputs, which become parts of file names.

    Raises:
      UserError: they are no names, or not one for each output.
    """
    names = tuple(map(str, outputs)) if isinstance(outputs, list) else ()
    if len({*names}) != classes or not all(re.fullmatch(r"[a-z0-9_]{1,32}", n) for n in names):
        raise UserError(f"{str(outputs)[:200]} does not name the outputs of a network")
    return names


def load_model(path: str | os.PathLike, **overrides) -> Network:
    """Load the model of a checkpoint, in evaluation mode.

    Args:
      path: a checkpoint directory, a work directory, whose best checkpoint is taken, or the name
        of packaged weights, "optical" or "sem" (a folder of that name is ./optical).
      **overrides: options of the model to change, such as `dtype="bfloat16"`.

    Returns:
      A model that maps images `[B, H, W, in_channels]` in [0, 1] to logits `[B, H, W, classes]`.
      `model.spec` has its name and options, and the preprocessing that it was trained with.

    Raises:
      UserError: there is no checkpoint, it is damaged, or its weights do not fit its model.
    """
    if str(path) in PRETRAINED:
        return load_pretrained(str(path), **overrides)
    directory = resolve(path)
    metadata = read_metadata(directory)
    try:
        spec = metadata["model"]
        if len(str(spec)) > LONGEST_SPEC or _largest_number(spec) > LARGEST_OPTION:
            raise TypeError("no network is that large")
        model = models.blank_model(spec["name"], **{**spec["options"], **overrides})
        if "preprocessing" in spec:
            preprocessing = Preprocessing.from_json(spec["preprocessing"])
            model.spec = dataclasses.replace(model.spec, preprocessing=preprocessing)
        if "outputs" in spec:
            outputs = _checked_outputs(spec["outputs"], len(model.spec.mask_suffixes()))
            model.spec = dataclasses.replace(model.spec, outputs=outputs)
    except UserError:
        raise
    except Exception as error:  # the options of a stranger's file can raise anything
        raise UserError(f"the checkpoint {directory} does not say which model it holds") from error
    graphdef, state = nnx.split(model)
    owner = f"model than {model.spec.name} with {model.spec.options_text()}"
    arrays = read_arrays(directory, metadata, "model", weight_arrays(state), owner)
    model = nnx.merge(graphdef, with_arrays(state, arrays))
    model.eval()
    return model


def _replace_directory(fresh: pathlib.Path, path: pathlib.Path):
    """Give a new directory the name of an old one, which is deleted last.

    If a rename fails, the old directory has its name again.
    """
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.rename(path)  # a process was killed between the two renames
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    files.flush(path)
    shutil.rmtree(old, ignore_errors=True)


def save_model(path: str | os.PathLike, model: Network):
    """Write a model as a checkpoint directory, in place of an earlier one of that name.

    The directory is complete or not there. If writing fails, an earlier checkpoint stays.

    Args:
      path: of the directory.
      model: from `create_model`, `load_model` or `from_torch`.

    Raises:
      UserError: it cannot be written, or something else than a checkpoint has that name.
    """
    path = pathlib.Path(path).absolute()
    if path.exists() and not is_checkpoint(path):
        raise UserError(f"{path} exists and is no checkpoint: name another output or remove it")
    fresh = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = weight_arrays(nnx.state(model))
        write_checkpoint(fresh, {"model": model.spec.to_json()}, model=weights)
        _replace_directory(fresh, path)
    except (OSError, ValueError, RuntimeError) as error:
        for partial in path.parent.glob(f"{fresh.name}*"):
            shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{path} cannot be written: {write_error_cause(error)}") from error
