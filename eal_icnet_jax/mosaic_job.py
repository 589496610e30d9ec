"""A mosaic's prediction as work that may be stopped, gone on with, and shared by processes.

While it goes on, a hidden folder `.NAME.partial` beside the output holds what it was begun with, a
Zarr for each result, and a mark for each piece that is done. A piece is a strip of rows that no
other writes to, a function of the mosaic, the weights and the settings alone: so a run that was
killed or shared ends with the same files as one that was not.
"""

import dataclasses
import itertools
import json
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import filelock
import numpy as np
import zarr
from tqdm import tqdm

from eal_icnet_jax import files, mosaics, postprocess
from eal_icnet_jax.distributed import ALONE, Processes
from eal_icnet_jax.errors import UserError
from eal_icnet_jax.mosaics import CHUNK, Mosaic
from eal_icnet_jax.windows import Blended

PANEL = 32 * CHUNK
"""Columns that are worked on at once, so that memory does not grow with the width."""

ENDINGS = {"tiff": ".ome.tif", "zarr": ".zarr"}


@dataclasses.dataclass(frozen=True)
class Piece:
    """What is written at once.

    mark: name of the file that says it is done.
    rows, columns: of the mosaic.
    """

    mark: str
    rows: slice
    columns: slice


def pieces_of(shape: tuple[int, int]) -> list[Piece]:
    """The pieces of a mosaic, each column of them from top to bottom."""
    return [
        Piece(f"{columns.start}_{rows.start}", rows, columns)
        for columns in mosaics.pieces(shape[1], PANEL)
        for rows in mosaics.pieces(shape[0], CHUNK)
    ]


class Job:
    """One mosaic's prediction.

    Args:
      mosaic: what is predicted.
      output: folder of the results.
      name: of the results, without their endings.
      classes: of the model.
      settings: what the result depends on beside the mosaic. A prediction begun with others is not
        gone on with.
      format: tiff or zarr.
      threshold: foreground from this probability.
      probabilities: whether to write them too, 65535 being 1.
      specks, holes: as for `postprocess.cleaned`.
    """

    def __init__(
        self,
        mosaic: Mosaic,
        output: pathlib.Path,
        name: str,
        classes: int,
        settings: dict,
        *,
        format: str,
        threshold: float,
        probabilities: bool = False,
        specks: int = 0,
        holes: int = 0,
    ):
        self._mosaic, self._output, self._name = mosaic, output, name
        self._format, self._threshold = format, threshold
        self._specks, self._holes = specks, holes
        self._work = output / f".{name}.partial"
        self._record = output / f"{name}.json"
        self._settings = {
            **mosaic.stamp(), **settings, "format": format, "threshold": threshold,
            "probabilities": probabilities, "remove_specks": specks, "fill_holes": holes,
        }  # fmt: skip
        stems = [name] if classes == 1 else [f"{name}_{k + 1}" for k in range(classes)]
        self._masks = stems
        self._probabilities = [f"{stem}_probability" for stem in stems] if probabilities else []
        self._pieces = pieces_of(mosaic.shape)

    def results(self) -> list[pathlib.Path]:
        """The masks' files, one a class."""
        return [self._output / f"{stem}{ENDINGS[self._format]}" for stem in self._masks]

    def _files(self) -> list[pathlib.Path]:
        stems = self._masks + self._probabilities
        return [self._output / f"{stem}{ENDINGS[self._format]}" for stem in stems]

    def finished(self) -> bool:
        """Whether all of it is there already.

        Raises:
          UserError: it is there, but made with other settings or from another mosaic.
        """
        there = [path for path in self._files() if path.exists()]
        if self._record.exists():
            self._hold_against(self._record)
            if len(there) == len(self._files()):
                shutil.rmtree(self._work, ignore_errors=True)  # of a run killed while removing it
                return True
        elif there and not self._work.exists():
            raise UserError(f"{there[0]} exists: remove it, or name another folder")
        return False

    def _hold_against(self, record: pathlib.Path):
        try:
            made = json.loads(record.read_text())["made_with"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{record} is damaged: remove what it belongs to") from error
        differing = [
            f"{key} {made.get(key)} instead of {self._settings[key]}"
            for key in self._settings
            if made.get(key) != self._settings[key]
        ]
        if differing:
            raise UserError(
                f"{record} tells of a prediction with {'; '.join(differing)}: go on as it was "
                "begun, remove it, or name another folder"
            )

    def _bytes(self) -> int:
        """What the results may take on disk at most while they are made."""
        pixels = self._mosaic.shape[0] * self._mosaic.shape[1] * 4 / 3
        masks = len(self._masks) * (2 if self._specks or self._holes else 1)
        each = masks + 2 * len(self._probabilities)
        if self._format == "tiff":
            each += len(self._masks) + 2 * len(self._probabilities)
        return int(pixels * each)

    def _begin(self) -> filelock.FileLock:
        """Makes the folder of the work, or takes it up; only the first process does."""
        record = self._work / "settings.json"
        self._output.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            free = shutil.disk_usage(self._output).free
            if free < (needed := self._bytes()):
                raise UserError(
                    f"{self._output} has {free / 2**20:,.0f} MB free, and {self._name} may take "
                    f"{needed / 2**20:,.0f} MB: make room, or name a folder on another disk"
                )
        self._work.mkdir(exist_ok=True)
        lock = files.lock(
            self._work / "lock", f"{self._work} is in use: another command predicts it"
        )
        if record.exists():
            self._hold_against(record)
            return lock
        (self._work / "done").mkdir(exist_ok=True)
        for stem in self._masks + self._probabilities:
            dtype = np.uint8 if stem in self._masks else np.uint16
            path = self._work / f"{stem}.zarr"
            mosaics.create(path, stem, self._mosaic.shape, dtype, self._mosaic.pixel_size)
        files.flush(self._work)
        files.write_whole(record, json.dumps({"made_with": self._settings}, indent=1) + "\n")
        return lock

    def _done(self) -> np.ndarray:
        marks = {path.name for path in (self._work / "done").iterdir()}
        return np.array([piece.mark in marks for piece in self._pieces], np.int32)

    def run(self, blended: Blended, processes: Processes = ALONE):
        """Predicts what is left, this process its share, and the first finishes the files.

        Raises:
          UserError: it cannot be written, or was begun otherwise.
        """
        lock = None
        try:
            done = np.zeros(len(self._pieces), np.int32)
            if processes.is_first:
                try:
                    lock = self._begin()
                    done = self._done()
                except (UserError, OSError):
                    processes.of_first(np.full_like(done, -1))
                    raise
            done = processes.of_first(done)
            if np.any(done < 0):
                raise UserError("the first process could not begin, and tells why")
            left = [piece for piece, is_done in zip(self._pieces, done, strict=True) if not is_done]
            if processes.is_first and done.any():
                print(f"going on: {int(done.sum())} of {len(done)} pieces are done", flush=True)
            first, last = (
                k * len(left) // processes.count for k in (processes.index, processes.index + 1)
            )
            self._predict(blended, left[first:last])
            if lock is None:
                self._wait(lambda: not self._work.exists())
                return
            self._wait(lambda: self._done().all())
            try:
                self._finish()
            except (RuntimeError, ValueError) as error:  # of decoders
                raise UserError(
                    f"{self._work} is damaged ({error}): remove it and run the same command again"
                ) from error
        except OSError as error:
            told = error.strerror or error
            raise UserError(
                f"{self._output} cannot be written ({told}): mend that and run the same command "
                "again, which goes on where it stopped"
            ) from error
        finally:
            if lock is not None:
                lock.release()

    @staticmethod
    def _wait(ready: Callable[[], bool]):
        """For other processes; this one ends where another of them is lost."""
        while not ready():
            time.sleep(0.2)

    def _predict(self, blended: Blended, pieces: list[Piece]):
        if not pieces:
            return
        panels = [
            (columns, list(group))
            for columns, group in itertools.groupby(pieces, lambda piece: piece.columns)
        ]
        total = sum(blended.count(columns, [p.rows for p in group]) for columns, group in panels)
        arrays = [
            zarr.open_group(str(self._work / f"{stem}.zarr"), mode="r+")["0"]
            for stem in self._masks + self._probabilities
        ]
        interval = 0.5 if sys.stderr.isatty() else 30
        bar = tqdm(total=total, unit="window", desc=self._name, mininterval=interval)
        with bar, blended.told(bar.update):
            for columns, group in panels:
                strips = blended.strips(columns, [piece.rows for piece in group])
                for piece, probabilities in zip(group, strips, strict=True):
                    levels = np.moveaxis(probabilities, -1, 0)
                    written = [np.where(level >= self._threshold, 255, 0) for level in levels]
                    if self._probabilities:
                        written += [np.rint(65535 * np.clip(level, 0, 1)) for level in levels]
                    for array, values in zip(arrays, written, strict=True):
                        array[piece.rows, piece.columns] = values.astype(array.dtype)
                    self._flush(piece)
                    (self._work / "done" / piece.mark).touch()

    def _flush(self, piece: Piece):
        """Waits until no loss of power takes it: its mark may outlast that."""
        for stem in self._masks + self._probabilities:
            for chunks in mosaics.folders(self._work / f"{stem}.zarr", piece.rows):
                files.flush(chunks)

    def _finish(self):
        """Post-processing, pyramids and the results' own format; gone on with after a kill.

        A file takes its place when it is whole: what is there is not made again.
        """
        foreground = []
        for stem, path in zip(self._masks + self._probabilities, self._files(), strict=True):
            folder = self._work / f"{stem}.zarr"
            if not path.exists():
                cleans = stem in self._masks and (self._specks or self._holes)
                ready = self._cleaned(folder) if cleans else folder
                group = zarr.open_group(str(ready), mode="r+")
                mosaics.fill_levels(group)
                if self._format == "tiff":
                    partial = self._work / path.name
                    mosaics.write_tiff(group, partial, self._mosaic.pixel_size, self._settings)
                    files.flush(partial)
                    partial.replace(path)
                else:
                    files.flush(ready)
                    ready.replace(path)
            if stem in self._masks:
                foreground.append(_foreground(mosaics.open_mosaic(path)))
        made = {"made_with": self._settings, "foreground": foreground}
        files.write_whole(self._record, json.dumps(made, indent=1) + "\n")
        shutil.rmtree(self._work)

    def _cleaned(self, folder: pathlib.Path) -> pathlib.Path:
        raw = zarr.open_group(str(folder), mode="r")["0"]
        out = folder.with_name(f"cleaned_{folder.name}")
        group = mosaics.create(out, folder.stem, raw.shape, raw.dtype, self._mosaic.pixel_size)
        for rows, columns in blocks(raw.shape):
            part = postprocess.cleaned_part(raw, rows, columns, self._specks, self._holes)
            group["0"][rows, columns] = np.where(part, 255, 0).astype(raw.dtype)
        return out

    def foreground(self) -> list[float]:
        """The fraction of each mask that is foreground, once it is finished."""
        return json.loads(self._record.read_text())["foreground"]


def blocks(shape: tuple[int, int], side: int = 8 * CHUNK) -> Iterator[tuple[slice, slice]]:
    """Blocks that make up a mosaic."""
    return itertools.product(*(mosaics.pieces(length, side) for length in shape))


def _foreground(mask: Mosaic) -> float:
    count = sum(np.count_nonzero(mask[block]) for block in blocks(mask.shape))
    return count / (mask.shape[0] * mask.shape[1])
