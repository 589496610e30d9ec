"""Checkpoint directories on disk: written and read by Orbax, and checked against their digests.

A checkpoint directory holds these items:

- `model`: parameters and batch statistics, as arrays by dotted name.
- `metadata`: JSON with the model's name and options and the digest of every item; after training
  also what the loop needs to go on.
- `training`: only after training; optimizer state, random keys and running loss, as one array for
  each dtype.
"""

import contextlib
import hashlib
import json
import pathlib

import jax
import orbax.checkpoint as ocp

from eal_icnet_jax.models.named_arrays import Arrays, arrays_digest
from eal_icnet_jax.system import files
from eal_icnet_jax.system.errors import UserError, first_line


class DamagedCheckpoint(UserError):
    """The files of a checkpoint are not what was written."""


def _damaged(directory: pathlib.Path, cause: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(f"the checkpoint {directory} is damaged, use another: {cause}")


def _json_digest(metadata: dict) -> str:
    rest = {key: value for key, value in metadata.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _with_digests(metadata: dict, items: dict[str, Arrays]) -> dict:
    """Return metadata of JSON types with the digests of itself and of the checkpoint's items."""
    metadata = json.loads(json.dumps(metadata))
    digests = {name: arrays_digest(arrays) for name, arrays in items.items()}
    return {**metadata, "sha256": {**digests, "metadata": _json_digest(metadata)}}


def _check_digest(directory: pathlib.Path, metadata: dict, item: str, digest: str):
    digests = metadata.get("sha256")
    if not isinstance(digests, dict):
        raise _damaged(directory, "it has no digests")
    if digests.get(item) != digest:
        raise _damaged(directory, f"{item} is not what was written")


def is_checkpoint(path: pathlib.Path) -> bool:
    """Return whether a folder has the items of a checkpoint."""
    return (path / "metadata").is_dir() and (path / "model").is_dir()


def step_directories(directory: pathlib.Path) -> dict[int, pathlib.Path]:
    """Return the complete checkpoints in a folder by their step."""
    if not directory.is_dir():
        return {}
    return {
        int(path.name): path
        for path in directory.iterdir()
        if path.name.isdigit() and ocp.utils.is_checkpoint_finalized(path)
    }


def read_metadata(directory: pathlib.Path) -> dict:
    """Read the metadata of a checkpoint.

    Raises:
      DamagedCheckpoint: the metadata cannot be read or its digest differs.
    """
    try:
        # A `Checkpointer` would wait for the other processes to read it too.
        with contextlib.closing(ocp.JsonCheckpointHandler()) as reader:
            metadata = reader.restore(directory / "metadata", args=ocp.args.JsonRestore())
    except Exception as error:  # Orbax and TensorStore raise every kind of exception
        raise _damaged(directory, first_line(error)) from error
    if not isinstance(metadata, dict):
        raise _damaged(directory, "its metadata is no JSON object")
    _check_digest(directory, metadata, "metadata", _json_digest(metadata))
    return metadata


def _check_shapes(directory: pathlib.Path, item: str, stored: dict, expected: Arrays, owner: str):
    shapes = {name: tuple(leaf.shape) for name, leaf in stored.items()}
    wrong = sorted(
        name
        for name in expected.keys() | shapes.keys()
        if name not in expected or shapes.get(name) != expected[name].shape
    )
    if wrong:
        raise UserError(
            f"the checkpoint {directory} is of another {owner}: {len(wrong)} arrays of its "
            f"{item} differ, {wrong[0]} first"
        )


def read_arrays(
    directory: pathlib.Path, metadata: dict, item: str, expected: Arrays, owner: str
) -> Arrays:
    """Read one item of a checkpoint onto this process's first device.

    The stored shapes are compared with the expected ones before any array is read.

    Args:
      directory: of the checkpoint.
      metadata: of the checkpoint.
      item: "model" or "training".
      expected: arrays with the names and shapes that the item must have.
      owner: what the item belongs to, for the error message.

    Raises:
      UserError: the item has other names or shapes.
      DamagedCheckpoint: the item cannot be read or its digest differs.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        # A reader of the whole checkpoint would also describe the other items, which takes time.
        with contextlib.closing(ocp.StandardCheckpointHandler()) as reader:
            stored = reader.metadata(directory / item).tree
            _check_shapes(directory, item, stored, expected, owner)
            target = {
                name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
                for name, leaf in stored.items()
            }
            arrays = reader.restore(directory / item, args=ocp.args.StandardRestore(target))
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore raise every kind of exception
        raise _damaged(directory, first_line(error)) from error
    _check_digest(directory, metadata, item, arrays_digest(arrays))
    return arrays


def write_checkpoint(path: pathlib.Path, metadata: dict, **items: Arrays):
    """Write a checkpoint directory, which gets its name once it is complete and on disk.

    Only this process writes; the others may be busy with a training step.

    Raises:
      OSError, ValueError, RuntimeError: it cannot be written; the latter two are TensorStore's.
    """
    index = jax.process_index()
    # Each handler needs these options. Without them it would wait for the other processes.
    options = ocp.options.MultiprocessingOptions(
        primary_host=index,
        active_processes={index} if jax.process_count() > 1 else None,
        barrier_sync_key_prefix=f"process_{index}" if jax.process_count() > 1 else None,
    )
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options),
        metadata=ocp.JsonCheckpointHandler(multiprocessing_options=options),
        **{name: ocp.StandardCheckpointHandler(multiprocessing_options=options) for name in items},
    )
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        checkpointer.save(
            path,
            args=ocp.args.Composite(
                metadata=ocp.args.JsonSave(_with_digests(metadata, items)),
                **{name: ocp.args.StandardSave(arrays) for name, arrays in items.items()},
            ),
            force=True,
        )
    files.flush(path)


def write_error_cause(error: Exception) -> str:
    """Return the cause of an error of `write_checkpoint` in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    causes = "No space left on device", "Read-only file system", "No such file or directory"
    text = " ".join(str(error).split())
    return next((cause for cause in causes if cause in text), text[:300])
