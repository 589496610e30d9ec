"""Checkpoints: one kind of directory, whether trained or converted, written by Orbax.

A checkpoint directory holds the items
  model: the parameters and batch statistics, dotted names to arrays;
  metadata: JSON with the model's name and options (`models.ModelSpec`) and, after training, what
    the loop needs to go on;
  training: after training, the optimizer's state, the random keys and the running loss.
A work directory has them under `checkpoints/<step>`.
"""

import contextlib
import functools
import json
import logging as python_logging
import os
import pathlib
import shutil
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from eal_icnet_jax import models
from eal_icnet_jax.errors import UserError

WEIGHTS = nnx.Any(nnx.Param, nnx.BatchStat)
"""The variables that a checkpoint's `model` holds."""

Arrays = dict[str, jax.Array]


def weight_arrays(*states: nnx.State) -> Arrays:
    """Parameters and batch statistics by dotted name."""
    flat = [
        item for state in states for item in nnx.to_flat_state(nnx.filter_state(state, WEIGHTS))
    ]
    return {".".join(map(str, path)): variable[...] for path, variable in flat}


def with_weights(state: nnx.State, arrays: Arrays) -> nnx.State:
    """The state with its parameters and batch statistics replaced by those of `weight_arrays`."""

    def replaced(path, variable):
        name = ".".join(map(str, path))
        return variable.replace(arrays[name]) if name in arrays else variable

    flat = nnx.to_flat_state(state)
    return nnx.from_flat_state([(path, replaced(path, variable)) for path, variable in flat])


def tree_arrays(tree) -> Arrays:
    """Any tree's leaves by dotted path, random keys as their data."""

    def plain(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): plain(leaf) for path, leaf in leaves
    }


def with_tree_arrays(tree, arrays: Arrays):
    """The tree with its leaves replaced by those of `tree_arrays`."""

    def replaced(path, leaf):
        value = arrays[jax.tree_util.keystr(path, simple=True, separator=".")]
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.wrap_key_data(value) if is_key else value

    return jax.tree_util.tree_map_with_path(replaced, tree)


def _is_checkpoint(path: pathlib.Path) -> bool:
    return (path / "metadata").is_dir() and (path / "model").is_dir()


def _step_directories(directory: pathlib.Path) -> dict[int, pathlib.Path]:
    if not directory.is_dir():
        return {}
    return {
        int(path.name): path
        for path in directory.iterdir()
        if path.name.isdigit() and ocp.utils.is_checkpoint_finalized(path)
    }


def _damaged(directory: pathlib.Path, error: Exception) -> UserError:
    cause = f"{error}".splitlines()[0][:200]
    return UserError(f"the checkpoint {directory} is damaged, use another: {cause}")


def read_metadata(directory: pathlib.Path) -> dict:
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            return reader.restore(directory / "metadata", args=ocp.args.JsonRestore())
    except Exception as error:  # Orbax and TensorStore raise all kinds, bare ones too
        raise _damaged(directory, error) from error


def resolve(path: str | os.PathLike) -> pathlib.Path:
    """The checkpoint directory that a user means.

    Args:
      path: a checkpoint directory, or a work directory, whose best checkpoint is taken.

    Raises:
      UserError: there is none.
    """
    path = pathlib.Path(path).expanduser().absolute()
    if _is_checkpoint(path):
        return path
    for directory in (path / "checkpoints", path):
        if steps := _step_directories(directory):
            best = read_metadata(steps[max(steps)]).get("early_stopping", {}).get("best_step")
            return steps.get(best, steps[max(steps)])
    raise UserError(
        f"{path} holds no checkpoint: name a work directory of a training, one of its "
        "checkpoints/<step>, or the output of `python -m eal_icnet_jax.convert from-torch`"
    )


@functools.cache
def _hush_reads_under_way():
    """Where one read fails, those still under way complain one by one: once will do."""
    earlier = sys.unraisablehook

    def hook(unraisable):
        told = str(unraisable.exc_value)
        if "Event loop is closed" not in told and "while reading array index" not in told:
            earlier(unraisable)

    sys.unraisablehook = hook
    python_logging.getLogger("asyncio").addFilter(
        lambda record: "exception was never retrieved" not in record.getMessage()
    )


def _read_weights(directory: pathlib.Path) -> Arrays:
    """A checkpoint's `model` as it was written, on this process's first device."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    _hush_reads_under_way()
    try:
        # Of the whole checkpoint Orbax would also describe the training's arrays, which takes time.
        with contextlib.closing(ocp.StandardCheckpointHandler()) as reader:
            stored = reader.metadata(directory / "model").tree
            target = {
                name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
                for name, leaf in stored.items()
            }
            return reader.restore(directory / "model", args=ocp.args.StandardRestore(target))
    except Exception as error:
        raise _damaged(directory, error) from error


def load_model(path: str | os.PathLike, **overrides) -> nnx.Module:
    """The model of a checkpoint, in evaluation mode.

    Args:
      path: as for `resolve`.
      **overrides: options of the model to change, `dtype` for one.

    Raises:
      UserError: there is no checkpoint, or its weights are not those of the model that it names.
    """
    directory = resolve(path)
    try:
        spec = read_metadata(directory)["model"]
        model = models.blank_model(spec["name"], **{**spec["options"], **overrides})
    except (KeyError, TypeError) as error:
        raise UserError(f"the checkpoint {directory} does not say which model it holds") from error
    graphdef, state = nnx.split(model)
    arrays = _read_weights(directory)
    expected = weight_arrays(state)
    wrong = sorted(
        name
        for name in expected.keys() | arrays.keys()
        if name not in expected or name not in arrays or expected[name].shape != arrays[name].shape
    )
    if wrong:
        raise UserError(
            f"the checkpoint {directory} is of another model than {model.spec.name} with "
            f"{model.spec.options_text()}: {len(wrong)} weights differ, {wrong[0]} first"
        )
    model = nnx.merge(graphdef, with_weights(state, arrays))
    model.eval()
    return model


def save_model(path: str | os.PathLike, model: nnx.Module):
    """Writes a model as a checkpoint directory, whole or not at all, in place of an earlier one.

    Raises:
      UserError: it cannot be written, or something other than a checkpoint is there.
    """
    path = pathlib.Path(path).absolute()
    if path.exists() and not _is_checkpoint(path):
        raise UserError(f"{path} exists and is no checkpoint: name another output or remove it")
    fresh = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = ocp.CompositeCheckpointHandler("model", "metadata")
        with ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save(
                fresh,
                args=ocp.args.Composite(
                    model=ocp.args.StandardSave(weight_arrays(nnx.state(model))),
                    metadata=ocp.args.JsonSave({"model": model.spec.to_json()}),
                ),
                force=True,
            )
        shutil.rmtree(path, ignore_errors=True)
        fresh.rename(path)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


class TrainingCheckpoints:
    """The checkpoints of one work directory, saved without holding up training.

    The best one and the two latest are kept: should the process die while the latest is being
    written, the one before it is whole.
    """

    def __init__(self, workdir: pathlib.Path):
        self._directory = pathlib.Path(workdir).absolute() / "checkpoints"
        self._manager = ocp.CheckpointManager(
            self._directory, options=ocp.CheckpointManagerOptions(max_to_keep=None)
        )

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def directory(self, step: int) -> pathlib.Path:
        return self._directory / str(step)

    def save(self, step: int, model: Arrays, training: Arrays, metadata: dict):
        """Starts to save, after any earlier save is done; drops what is no longer needed.

        Raises:
          UserError: the checkpoint cannot be written.
        """
        keep = {metadata["early_stopping"]["best_step"], self.latest_step()}
        try:
            self._manager.wait_until_finished()
            for old in self._manager.all_steps():
                if old not in keep:
                    self._manager.delete(old)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardSave(model),
                    training=ocp.args.StandardSave(training),
                    metadata=ocp.args.JsonSave(json.loads(json.dumps(metadata))),
                ),
                force=True,
            )
        except OSError as error:
            raise UserError(
                f"the checkpoint {self.directory(step)} cannot be written: {error}"
            ) from error

    def restore(self, model: Arrays, training: Arrays) -> tuple[Arrays, Arrays, dict]:
        """The latest checkpoint, in the shapes, dtypes and shardings of the arguments."""

        def target(arrays):
            return {
                name: jax.ShapeDtypeStruct(np.shape(a), a.dtype, sharding=a.sharding)
                for name, a in arrays.items()
            }

        step = self.latest_step()
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardRestore(target(model)),
                    training=ocp.args.StandardRestore(target(training)),
                    metadata=ocp.args.JsonRestore(),
                ),
            )
        except Exception as error:
            cause = str(error).splitlines()[0][:200]
            raise UserError(
                f"the checkpoint {self.directory(step)} is damaged or of another training, use a "
                f"new --workdir: {cause}"
            ) from error
        return restored.model, restored.training, restored.metadata

    def wait(self):
        """Until everything is on disk."""
        self._manager.wait_until_finished()

    def close(self):
        self._manager.close()
