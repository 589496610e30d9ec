"""A mosaic's prediction, which can be stopped, taken up again, and shared by several processes.

The mosaic is predicted piece by piece into a hidden folder beside the results. A piece depends only
on the mosaic, the weights and the settings, and no two pieces write to the same chunk. So a run
that was killed or shared ends with the same files as one that was not.
"""

import contextlib
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from eal_icnet_jax.inference.mosaic_job import MosaicJob, Piece
from eal_icnet_jax.inference.mosaic_results import write_results
from eal_icnet_jax.inference.mosaic_work_folder import WorkFolder, check_same_settings
from eal_icnet_jax.inference.views import uncertainty
from eal_icnet_jax.inference.windows import BlendedWindows
from eal_icnet_jax.system.errors import UserError, os_error_cause
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, ProcessGroup
from eal_icnet_jax.system.terminal import announce, progress_bar

CANNOT_BEGIN = -1
"""Sent by the first process instead of the state of the pieces if it cannot begin."""


class MosaicPrediction:
    """The prediction of one mosaic."""

    def __init__(self, job: MosaicJob):
        self._job = job
        self._folder = WorkFolder(job)

    def is_finished(self) -> bool:
        """Return whether all results exist already.

        Raises:
          UserError: they exist, but were made with other settings or from another mosaic.
        """
        job = self._job
        paths = [job.result_path(stem) for stem in job.stems]
        existing = [path for path in paths if path.exists()]
        if job.record_path.exists():
            check_same_settings(job.record_path, job.settings)
            if len(existing) == len(paths):
                self._folder.remove()  # left by a run that was killed while removing it
                return True
        elif existing and not self._folder.path.exists():
            raise UserError(f"{existing[0]} exists: remove it, or name another folder")
        return False

    def run(
        self,
        windows: BlendedWindows,
        processes: ProcessGroup = SINGLE_PROCESS,
    ):
        """Predict the pieces that are not done. The first process then writes the results.

        Args:
          windows: of the mosaic.
          processes: that call this together; each predicts its share of the pieces.

        Raises:
          UserError: this or another process could not do its part, or the prediction was begun with
            other settings. All processes raise it.
          OSError: this process failed and cannot let the others know. All of them have to end.
        """
        with contextlib.ExitStack() as stack:
            with self._user_errors():
                done = stack.enter_context(self._begun(processes))
            if processes.is_first and done.any():
                announce(f"going on: {done.sum()} of {len(done)} pieces are done")
            try:
                with self._user_errors():
                    self._predict(windows, self._share(done, processes))
                    self._complete(processes)
            except UserError as error:
                if processes.count > 1:
                    message = f"process {processes.index} failed: {error}"
                    self._folder.record_failure(message)
                raise
            except _OtherProcessFailed as error:
                raise UserError(str(error)) from error

    @contextlib.contextmanager
    def _user_errors(self) -> Iterator[None]:
        """Turn errors of writing into a `UserError` that says how to go on."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._job.output} cannot be written ({os_error_cause(error)}): correct that and "
                "run the same command again, which goes on where it stopped"
            ) from error

    @contextlib.contextmanager
    def _begun(self, processes: ProcessGroup) -> Iterator[np.ndarray]:
        """Open the work folder, and yield in every process which pieces are done, `[N]`."""
        done = np.zeros(len(self._job.pieces), np.int32)
        with contextlib.ExitStack() as stack:
            if processes.is_first:
                try:
                    stack.enter_context(self._folder.opened())
                    done = self._folder.pieces_done()
                except (UserError, OSError):
                    processes.broadcast_from_first(np.full_like(done, CANNOT_BEGIN))
                    raise
            done = processes.broadcast_from_first(done)
            if np.any(done == CANNOT_BEGIN):
                raise UserError("the first process cannot begin: see its own message")
            yield done

    def _share(self, done: np.ndarray, processes: ProcessGroup) -> list[Piece]:
        """Return the pieces that this process predicts, neighbours of one another."""
        left = [piece for piece, is_done in zip(self._job.pieces, done, strict=True) if not is_done]
        first, end = (
            k * len(left) // processes.count for k in (processes.index, processes.index + 1)
        )
        return left[first:end]

    def _predict(self, windows: BlendedWindows, pieces: list[Piece]):
        if not pieces:
            return
        panels = [
            (columns, list(group))
            for columns, group in itertools.groupby(pieces, lambda piece: piece.columns)
        ]
        strips = {columns.start: [piece.rows for piece in group] for columns, group in panels}
        total = sum(windows.window_count(columns, strips[columns.start]) for columns, _ in panels)
        arrays = self._folder.arrays()
        with progress_bar(self._job.name, total, "window") as bar:
            for columns, group in panels:
                predicted = windows.strips(columns, strips[columns.start], bar.update)
                for piece, probabilities in zip(group, predicted, strict=True):
                    for array, values in zip(arrays, self._results(probabilities), strict=True):
                        array[piece.rows, piece.columns] = values.astype(array.dtype)
                    self._folder.mark_done(piece)

    def _results(self, probabilities: np.ndarray) -> list[np.ndarray]:
        """Return the values of all results, in the order of `job.stems`.

        Args:
          probabilities: `[rows, columns, classes]`, or with their spread twice as many classes.
        """
        job, count = self._job, len(self._job.mask_stems)
        by_class = np.moveaxis(probabilities, -1, 0)
        by_class, spread = by_class[:count], by_class[count:]
        values = [np.where(p >= job.threshold, 255, 0) for p in by_class]
        if job.probabilities:
            values += [np.rint(65535 * np.clip(p, 0, 1)) for p in by_class]
        if job.uncertainty:
            unsure = uncertainty(by_class, spread if len(spread) else None)
            values += [np.rint(65535 * np.clip(u, 0, 1)) for u in unsure]
        return values

    def _complete(self, processes: ProcessGroup):
        """Wait for the other processes; the first one then writes the results."""
        if not processes.is_first:
            self._wait_until(lambda: not self._folder.path.exists())
            return
        self._wait_until(lambda: self._folder.pieces_done().all())
        try:
            write_results(self._job, self._folder)
        except (RuntimeError, ValueError) as error:  # raised by decoders
            raise UserError(
                f"{self._folder.path} is damaged ({error}): remove it and run the same command "
                "again"
            ) from error

    def _wait_until(self, ready: Callable[[], bool]):
        """Wait for another process. If one is lost, `process_group.joined` ends this one."""
        while not ready():
            if (message := self._folder.failure()) is not None:
                raise _OtherProcessFailed(message)
            time.sleep(0.2)

    def mask_paths(self) -> list[pathlib.Path]:
        """Return the files of the masks, one per class."""
        return [self._job.result_path(stem) for stem in self._job.mask_stems]

    def foreground(self) -> list[float]:
        """Return the fraction of foreground of each mask, once the results are written."""
        return json.loads(self._job.record_path.read_text())["foreground"]


class _OtherProcessFailed(Exception):
    """Another process could not do its part of the mosaic."""
