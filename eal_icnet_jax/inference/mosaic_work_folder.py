"""The hidden folder `.NAME.partial`, which holds a mosaic's prediction while it is in progress.

It holds the settings, a Zarr for each result, and a mark for each piece that is done. A run that
was killed goes on from there, and several processes share the work through it.
"""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
import zarr

from eal_icnet_jax.imaging import pyramid
from eal_icnet_jax.inference.mosaic_job import MosaicJob, Piece
from eal_icnet_jax.system import files
from eal_icnet_jax.system.errors import UserError


def check_same_settings(record: pathlib.Path, settings: dict):
    """Raise a `UserError` if a record was written with other settings, or cannot be read."""
    try:
        recorded = json.loads(record.read_text())["made_with"]
        differences = [
            f"{key} {recorded.get(key)} instead of {value}"
            for key, value in settings.items()
            if recorded.get(key) != value
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{record} is damaged: remove it and the files of its prediction"
        ) from error
    if differences:
        raise UserError(
            f"{record} belongs to a prediction with {'; '.join(differences)}: repeat the command "
            "that began it, remove its files, or name another folder"
        )


class WorkFolder:
    """The work folder of a job, which need not exist yet.

    Attributes:
      path: of the folder.
    """

    def __init__(self, job: MosaicJob):
        self._job = job
        self.path = job.output / f".{job.name}.partial"
        self._settings = self.path / "settings.json"
        self._marks = self.path / "done"
        self._failure = self.path / "failure"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder or take it up again, and lock it. Only the first process does this.

        Raises:
          UserError: another command uses the folder, it was begun with other settings, or the disk
            has too little space.
          OSError: it cannot be written.
        """
        self._job.output.mkdir(parents=True, exist_ok=True)
        if not self._settings.exists():
            self._check_free_space()
        self.path.mkdir(exist_ok=True)
        lock = files.lock(
            self.path / "lock", f"{self.path} is in use: another command predicts this mosaic"
        )
        try:
            if self._settings.exists():
                check_same_settings(self._settings, self._job.settings)
            else:
                self._create()
            self._failure.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def _check_free_space(self):
        free, needed = shutil.disk_usage(self._job.output).free, self._job.required_bytes()
        if free < needed:
            raise UserError(
                f"{self._job.output} has {free / 2**20:,.0f} MB free, and {self._job.name} may "
                f"take {needed / 2**20:,.0f} MB: make room, or name a folder on another disk"
            )

    def _create(self):
        job = self._job
        self._marks.mkdir(exist_ok=True)
        for stem in job.stems:
            dtype = np.uint8 if stem in job.mask_stems else np.uint16
            shape, pixel_size = job.mosaic.shape, job.mosaic.pixel_size
            pyramid.create_pyramid(self.zarr_path(stem), stem, shape, dtype, pixel_size)
        files.flush(self.path)
        text = json.dumps({"made_with": job.settings}, indent=1) + "\n"
        files.write_atomically(self._settings, text)

    def zarr_path(self, stem: str) -> pathlib.Path:
        """Return the path of the Zarr of a result."""
        return self.path / f"{stem}.zarr"

    def arrays(self) -> list[zarr.Array]:
        """Return the finest arrays `[H, W]` of the results, in the order of `job.stems`."""
        return [
            zarr.open_group(str(self.zarr_path(stem)), mode="r+")["0"] for stem in self._job.stems
        ]

    def pieces_done(self) -> np.ndarray:
        """Return which of the job's pieces are done, `[N]` int32 of 0 and 1."""
        marks = {path.name for path in self._marks.iterdir()}
        return np.array([piece.mark in marks for piece in self._job.pieces], np.int32)

    def mark_done(self, piece: Piece):
        """Mark a piece as done, once its chunks would survive a loss of power."""
        for stem in self._job.stems:
            for chunks in pyramid.chunk_folders(self.zarr_path(stem), piece.rows):
                files.flush(chunks)
        (self._marks / piece.mark).touch()

    def record_failure(self, message: str):
        """Let the other processes know that this one could not do its part.

        Raises:
          OSError: it cannot be written.
        """
        partial = self._failure.with_suffix(".partial")
        partial.write_text(message)
        partial.replace(self._failure)

    def failure(self) -> str | None:
        """Return the message of a process that could not do its part."""
        try:
            return self._failure.read_text()
        except FileNotFoundError:
            return None

    def remove(self):
        """Remove the folder, which may be gone already."""
        shutil.rmtree(self.path, ignore_errors=True)
