"""Checkpoints: one kind of directory, whether trained or converted, written by Orbax.

A checkpoint directory holds the items
  model: the parameters and batch statistics, dotted names to arrays;
  metadata: JSON with the model's name and options (`models.ModelSpec`), digests of every item, and
    after training what the loop needs to go on;
  training: after training, the optimizer's state, the random keys and the running loss.
A work directory has them under `checkpoints/<step>`.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import itertools
import json
import logging as python_logging
import os
import pathlib
import shutil
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from flax import nnx

from eal_icnet_jax import files, models
from eal_icnet_jax.distributed import ALONE, Processes
from eal_icnet_jax.errors import UserError, warn

WEIGHTS = nnx.Any(nnx.Param, nnx.BatchStat)
"""The variables that a checkpoint's `model` holds."""

Arrays = dict[str, jax.Array]

LARGEST_OPTION = 2**16
"""Of a network that a checkpoint names."""


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


def digest(arrays: Arrays) -> str:
    """SHA-256 of named arrays: names, dtypes, shapes and values."""
    out = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        out.update(f"{name} {array.dtype} {array.shape}\n".encode())
        out.update(np.ascontiguousarray(array).data)
    return out.hexdigest()


def _digest_of_json(metadata: dict) -> str:
    rest = {key: value for key, value in metadata.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _sealed(metadata: dict, **items: Arrays) -> dict:
    """Metadata, of JSON types, with the digests of itself and the checkpoint's other items."""
    metadata = json.loads(json.dumps(metadata))
    digests = {name: digest(arrays) for name, arrays in items.items()}
    return {**metadata, "sha256": {**digests, "metadata": _digest_of_json(metadata)}}


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


class DamagedCheckpoint(UserError):
    """A checkpoint is not as it was written."""


def _damaged(directory: pathlib.Path, error: Exception) -> DamagedCheckpoint:
    cause = next(iter(f"{error}".splitlines()), type(error).__name__)[:200]
    return DamagedCheckpoint(f"the checkpoint {directory} is damaged, use another: {cause}")


def read_metadata(directory: pathlib.Path) -> dict:
    """A checkpoint's metadata.

    Raises:
      UserError: it is damaged.
    """
    try:
        # A Checkpointer's would wait for other processes to read it too.
        with contextlib.closing(ocp.JsonCheckpointHandler()) as reader:
            metadata = reader.restore(directory / "metadata", args=ocp.args.JsonRestore())
    except Exception as error:  # Orbax and TensorStore raise all kinds, bare ones too
        raise _damaged(directory, error) from error
    if not isinstance(metadata, dict):
        raise _damaged(directory, TypeError("its metadata are no JSON object"))
    _check(directory, metadata, "metadata", _digest_of_json(metadata))
    return metadata


def _check(directory: pathlib.Path, metadata: dict, item: str, found: str):
    """Raises a `UserError` where an item is not as it was written."""
    digests = metadata.get("sha256")
    if not isinstance(digests, dict):
        raise _damaged(directory, ValueError("it has no digests"))
    if digests.get(item) != found:
        raise _damaged(directory, ValueError(f"{item} is not what was written"))


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
            return steps[_best_step(steps)]
    raise UserError(
        f"{path} holds no checkpoint: name a work directory of a training, one of its "
        "checkpoints/<step>, or the output of `python -m eal_icnet_jax.convert from-torch`"
    )


def _best_step(steps: dict[int, pathlib.Path]) -> int:
    """The step of the best checkpoint, as the latest says whose metadata are whole."""
    for step in sorted(steps, reverse=True):
        try:
            best = read_metadata(steps[step]).get("early_stopping", {}).get("best_step")
        except UserError as error:
            if step == min(steps):
                raise
            warn(f"{error}")
        else:
            return best if best in steps else step


UNDER_WAY = "Event loop is closed", "while reading array index", "Error writing "


@functools.cache
def _hush_what_is_under_way():
    """Where one read or write fails, those under way complain one by one: once will do."""
    earlier = sys.unraisablehook

    def hook(unraisable):
        told = str(unraisable.exc_value)
        if not any(part in told for part in UNDER_WAY):
            earlier(unraisable)

    sys.unraisablehook = hook
    python_logging.getLogger("asyncio").addFilter(
        lambda record: "exception was never retrieved" not in record.getMessage()
    )
    absl_logging.get_absl_logger().addFilter(
        lambda record: "SignalingThread" not in record.getMessage()
    )


def _read(
    directory: pathlib.Path, metadata: dict, item: str, expected: Arrays, what: str
) -> Arrays:
    """A checkpoint's item as it was written, on this process's first device.

    Nothing is read of a checkpoint that says it has arrays of other shapes than expected.

    Args:
      metadata: the checkpoint's.
      expected: arrays of the same names and shapes.
      what: they are of, for the error.

    Raises:
      UserError: it is damaged, or of something else.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    _hush_what_is_under_way()
    try:
        # Of the whole checkpoint Orbax would also describe the other items, which takes time.
        with contextlib.closing(ocp.StandardCheckpointHandler()) as reader:
            stored = reader.metadata(directory / item).tree
            shapes = {name: tuple(leaf.shape) for name, leaf in stored.items()}
            wrong = sorted(
                name
                for name in expected.keys() | shapes.keys()
                if name not in expected or shapes.get(name) != expected[name].shape
            )
            if wrong:
                raise UserError(
                    f"the checkpoint {directory} is of another {what}: {len(wrong)} arrays of its "
                    f"{item} differ, {wrong[0]} first"
                )
            target = {
                name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
                for name, leaf in stored.items()
            }
            arrays = reader.restore(directory / item, args=ocp.args.StandardRestore(target))
    except UserError:
        raise
    except Exception as error:
        raise _damaged(directory, error) from error
    _check(directory, metadata, item, digest(arrays))
    return arrays


def _largest_number(tree) -> float:
    leaves = jax.tree.leaves(tree)
    return max((abs(leaf) for leaf in leaves if isinstance(leaf, int | float)), default=0)


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
        metadata = read_metadata(directory)
        spec = metadata["model"]
        if len(str(spec)) > 10_000 or _largest_number(spec) > LARGEST_OPTION:
            raise TypeError("no network is that large")
        model = models.blank_model(spec["name"], **{**spec["options"], **overrides})
    except UserError:
        raise
    except Exception as error:  # of whatever its options make of a network
        raise UserError(f"the checkpoint {directory} does not say which model it holds") from error
    graphdef, state = nnx.split(model)
    what = f"model than {model.spec.name} with {model.spec.options_text()}"
    arrays = _read(directory, metadata, "model", weight_arrays(state), what)
    model = nnx.merge(graphdef, with_weights(state, arrays))
    model.eval()
    return model


def _write(path: pathlib.Path, metadata: dict, **items: Arrays):
    """Writes a checkpoint directory, which takes its place when it is whole; by this process alone.

    It is on disk when this returns.

    Raises:
      OSError, ValueError, RuntimeError: it cannot be written; the latter two are TensorStore's.
    """
    _hush_what_is_under_way()
    index = jax.process_index()
    # Of each part of it: else some would wait for the other processes, who are training.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=index,
        active_processes={index} if jax.process_count() > 1 else None,
        barrier_sync_key_prefix=f"process_{index}" if jax.process_count() > 1 else None,
    )
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
        metadata=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
        **{name: ocp.StandardCheckpointHandler(multiprocessing_options=alone) for name in items},
    )
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        checkpointer.save(
            path,
            args=ocp.args.Composite(
                metadata=ocp.args.JsonSave(_sealed(metadata, **items)),
                **{name: ocp.args.StandardSave(arrays) for name, arrays in items.items()},
            ),
            force=True,
        )
    files.flush(path)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    known = "No space left on device", "Read-only file system", "No such file or directory"
    told = " ".join(str(error).split())
    return next((cause for cause in known if cause in told), told[:300])


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
        _write(fresh, {"model": model.spec.to_json()}, model=weight_arrays(nnx.state(model)))
        shutil.rmtree(path, ignore_errors=True)
        fresh.rename(path)
        files.flush(path)
    except (OSError, ValueError, RuntimeError) as error:
        for left in path.parent.glob(f"{fresh.name}*"):
            shutil.rmtree(left, ignore_errors=True)
        raise UserError(f"{path} cannot be written: {_why(error)}") from error


class TrainingCheckpoints:
    """The checkpoints of one work directory, saved without holding up training.

    The best one and the two latest are kept: should the process die while the latest is being
    written, or should that be damaged later, the one before it is whole.

    Args:
      workdir: where they lie, under checkpoints/.
      processes: that train together, the first of which writes.
    """

    def __init__(self, workdir: pathlib.Path, processes: Processes = ALONE):
        self._directory = pathlib.Path(workdir).absolute() / "checkpoints"
        self._processes = processes
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._saving: concurrent.futures.Future | None = None

    def latest_step(self) -> int | None:
        return max(_step_directories(self._directory), default=None)

    def directory(self, step: int) -> pathlib.Path:
        return self._directory / str(step)

    def save(self, step: int, model: Arrays, training: Arrays, metadata: dict):
        """Starts to save, after any earlier save is done; then drops what is no longer needed.

        Only the first process does.

        Raises:
          UserError: the checkpoint before this one cannot be written.
        """
        if not self._processes.is_first:
            return
        self.wait()
        # Of this process, and no more those that the next step takes over.
        model, training = (
            {name: np.array(array) for name, array in arrays.items()}
            for arrays in (model, training)
        )
        self._saving = self._thread.submit(self._save, step, model, training, metadata)

    def _save(self, step: int, model: Arrays, training: Arrays, metadata: dict):
        try:
            self._directory.mkdir(exist_ok=True)  # but not the workdir, should that be gone
            for left in self._directory.glob("*.orbax-checkpoint-tmp*"):  # of one that was killed
                shutil.rmtree(left, ignore_errors=True)
            keep = {step, metadata["early_stopping"]["best_step"], self.latest_step()}
            for attempt in range(3):
                try:
                    _write(self.directory(step), metadata, model=model, training=training)
                except TimeoutError:  # Orbax's, for whom a clock that is set used up all its time
                    if attempt == 2:
                        raise
                else:
                    break
            for old, directory in _step_directories(self._directory).items():
                if old not in keep:
                    shutil.rmtree(directory, ignore_errors=True)
        except (OSError, ValueError, RuntimeError) as error:
            for left in self._directory.glob(f"{step}.orbax-checkpoint-tmp*"):
                shutil.rmtree(left, ignore_errors=True)
            raise UserError(
                f"the checkpoint {self.directory(step)} cannot be written ({_why(error)}): mend "
                "that and run the same command again, which goes on from the one before it"
            ) from error

    def restore(self, model: Arrays, training: Arrays) -> tuple[Arrays, Arrays, dict] | None:
        """The latest checkpoint that is whole, None where there is none at all.

        One that is damaged is set aside and told of. Every process gets the same one.

        Args:
          model, training: arrays of the same names and shapes.

        Raises:
          UserError: all are damaged, or the latest whole one is of another training.
        """
        step, restored = -1, None
        if self._processes.is_first:
            step, restored = self._latest_whole(model, training)
        step = int(self._processes.of_first(np.array(step, np.int32)))
        if step >= 0 and not self._processes.is_first:
            restored = self._read(step, model, training)
        return restored

    def _read(self, step: int, model: Arrays, training: Arrays) -> tuple[Arrays, Arrays, dict]:
        directory = self.directory(step)
        what = "training, use a new --workdir"
        metadata = read_metadata(directory)
        return (
            _read(directory, metadata, "model", model, what),
            _read(directory, metadata, "training", training, what),
            metadata,
        )

    def _latest_whole(self, model: Arrays, training: Arrays):
        damaged = []
        for step in sorted(_step_directories(self._directory), reverse=True):
            try:
                restored = self._read(step, model, training)
            except DamagedCheckpoint as error:
                damaged.append((step, error))
                continue
            for other, error in damaged:
                aside = self._set_aside(other)
                warn(f"{error}; it is set aside as {aside}, and the one of step {step} is used")
            return step, restored
        if damaged:
            raise UserError(
                f"no checkpoint in {self._directory} is whole, use a new --workdir: {damaged[0][1]}"
            )
        return -1, None

    def _set_aside(self, step: int) -> pathlib.Path:
        directory = self.directory(step)
        names = (f"damaged_{step}" + (f"_{k}" if k else "") for k in itertools.count())
        aside = next(path for path in map(directory.with_name, names) if not path.exists())
        try:
            return directory.rename(aside)
        except OSError as error:
            raise UserError(f"{directory} cannot be renamed: {error.strerror or error}") from error

    def is_whole(self, step: int, model: Arrays) -> bool:
        """Whether the model of a step's checkpoint is there as it was written."""
        directory = self.directory(step)
        try:
            _read(directory, read_metadata(directory), "model", model, "training")
        except UserError:
            return False
        return True

    def check(self):
        """Raises a `UserError` where a save could not be done."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self):
        """Until everything is on disk.

        Raises:
          UserError: it cannot be written.
        """
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def close(self):
        """Waits for what is being written, and keeps an error of that to itself."""
        with contextlib.suppress(UserError):
            self.wait()
        self._thread.shutdown()
