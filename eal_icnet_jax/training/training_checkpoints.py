"""The checkpoints of a run, written in the background.

Orbax's `CheckpointManager` is not used: CONTRIBUTING.md says why.
"""

import concurrent.futures
import contextlib
import itertools
import pathlib
import shutil

import numpy as np

from eal_icnet_jax.models.checkpoint_files import (
    DamagedCheckpoint,
    read_arrays,
    read_metadata,
    step_directories,
    write_checkpoint,
    write_error_cause,
)
from eal_icnet_jax.models.named_arrays import Arrays, packed, unpacked
from eal_icnet_jax.system.errors import UserError, os_error_cause
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, ProcessGroup
from eal_icnet_jax.system.terminal import warn

WRITE_ATTEMPTS = 3
"""Orbax gives up by the wall clock, which may be set forward while it writes."""


class TrainingCheckpoints:
    """The checkpoints of one work directory, saved without holding up the training.

    The best one and the two latest are kept. If the process dies while it writes the latest, or if
    the latest is damaged later, the one before it is complete.

    Args:
      workdir: of the run; the checkpoints are in its folder `checkpoints`.
      processes: that train together. The first one writes.
    """

    def __init__(self, workdir: pathlib.Path, processes: ProcessGroup = SINGLE_PROCESS):
        self._directory = pathlib.Path(workdir).absolute() / "checkpoints"
        self._processes = processes
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._saving: concurrent.futures.Future | None = None

    def latest_step(self) -> int | None:
        """Return the step of the latest complete checkpoint, or None."""
        return max(step_directories(self._directory), default=None)

    def directory(self, step: int) -> pathlib.Path:
        """Return the directory of a step's checkpoint."""
        return self._directory / str(step)

    def save(self, step: int, model: Arrays, training: Arrays, metadata: dict):
        """Begin to save a checkpoint, once the one before it is saved. Only the first process does.

        Raises:
          UserError: the checkpoint before this one could not be written.
        """
        if not self._processes.is_first:
            return
        self.wait()
        # Copied to the host, because the next step takes over the arrays on the devices.
        model, training = {name: np.array(array) for name, array in model.items()}, packed(training)
        self._saving = self._thread.submit(self._save, step, model, training, metadata)

    def _save(self, step: int, model: Arrays, training: Arrays, metadata: dict):
        try:
            self._directory.mkdir(exist_ok=True)  # not its parent: the workdir may be gone
            self._remove_partial("*")
            kept = {step, metadata["early_stopping"]["best_step"], self.latest_step()}
            for attempt in range(WRITE_ATTEMPTS):
                try:
                    write_checkpoint(self.directory(step), metadata, model=model, training=training)
                    break
                except TimeoutError:
                    if attempt == WRITE_ATTEMPTS - 1:
                        raise
            for other, directory in step_directories(self._directory).items():
                if other not in kept:
                    shutil.rmtree(directory, ignore_errors=True)
        except (OSError, ValueError, RuntimeError) as error:
            self._remove_partial(str(step))
            raise UserError(
                f"the checkpoint {self.directory(step)} cannot be written "
                f"({write_error_cause(error)}): mend that and run the same command again, which "
                "goes on from the one before it"
            ) from error

    def _remove_partial(self, step: str):
        """Remove what a killed process left of checkpoints that it did not finish."""
        for partial in self._directory.glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(partial, ignore_errors=True)

    def restore(self, model: Arrays, training: Arrays) -> tuple[Arrays, Arrays, dict] | None:
        """Read the latest checkpoint that is not damaged, the same one in every process.

        A damaged checkpoint is set aside with a warning.

        Args:
          model: arrays with the names and shapes of the item `model`.
          training: the same for the item `training`.

        Returns:
          Both items and the metadata, or None if there is no checkpoint at all.

        Raises:
          UserError: all checkpoints are damaged, or the latest one is of another training.
        """
        step, restored = -1, None
        if self._processes.is_first:
            step, restored = self._latest_undamaged(model, training)
        step = int(self._processes.broadcast_from_first(np.array(step, np.int32)))
        if step >= 0 and not self._processes.is_first:
            restored = self._read(step, model, training)
        return restored

    def _read(self, step: int, model: Arrays, training: Arrays) -> tuple[Arrays, Arrays, dict]:
        directory = self.directory(step)
        owner = "training, use a new --workdir"
        metadata = read_metadata(directory)
        weights = read_arrays(directory, metadata, "model", model, owner)
        packs = read_arrays(directory, metadata, "training", packed(training), owner)
        return weights, unpacked(packs, training), metadata

    def _latest_undamaged(self, model: Arrays, training: Arrays):
        damaged = []
        for step in sorted(step_directories(self._directory), reverse=True):
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
                f"every checkpoint in {self._directory} is damaged, use a new --workdir: "
                f"{damaged[0][1]}"
            )
        return -1, None

    def _set_aside(self, step: int) -> pathlib.Path:
        directory = self.directory(step)
        names = (f"damaged_{step}" + (f"_{k}" if k else "") for k in itertools.count())
        aside = next(path for path in map(directory.with_name, names) if not path.exists())
        try:
            return directory.rename(aside)
        except OSError as error:
            raise UserError(f"{directory} cannot be renamed: {os_error_cause(error)}") from error

    def is_undamaged(self, step: int, model: Arrays) -> bool:
        """Return whether a step's checkpoint still has its model as it was written."""
        directory = self.directory(step)
        try:
            read_arrays(directory, read_metadata(directory), "model", model, "training")
        except UserError:
            return False
        return True

    def check(self):
        """Raise a `UserError` if a save that has ended failed."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self):
        """Wait until everything is on disk.

        Raises:
          UserError: it could not be written.
        """
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def close(self):
        """Wait for a save that is under way, and ignore its errors."""
        with contextlib.suppress(UserError):
            self.wait()
        self._thread.shutdown()
