"""The review of a photograph: its prediction, its corrections and rounds of training.

DIR/photograph.json          which photograph it is
DIR/photograph.zarr          its pyramid, made at the first use
DIR/predictions/000, 001 ... what the model before any round, of round 1, ... predicts
DIR/strokes.jsonl            the corrections
DIR/train, DIR/models        see `project`
"""

import contextlib
import glob
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from eal_icnet_jax.imaging import image_folders, mosaic_files, png
from eal_icnet_jax.review.first_squares import SquareMask, read_masks
from eal_icnet_jax.review.project import Project
from eal_icnet_jax.review.review_list import ListedSquare, read_squares
from eal_icnet_jax.review.strokes import (
    METAL,
    SEEN,
    UNKNOWN,
    VIA,
    Stroke,
    StrokeLog,
    painted,
)
from eal_icnet_jax.review.views import Part, Pyramid, photograph_pyramid
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_written, lock, write_atomically

SIDE = 256
"""Least side in pixels of the squares that are trained on."""

NEAR = 24
"""Distance in pixels from a stroke within which a person has looked at the photograph."""


class Job:
    """A command that runs in the background, whose last line is its state.

    Args:
      arguments: of `eal-icnet`.
      output: file of what it prints.
    """

    def __init__(self, arguments: Sequence[str], output: pathlib.Path):
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "eal_icnet_jax", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def has_failed(self) -> bool:
        """Whether it has ended without success."""
        return self._process.poll() not in (None, 0)

    def last_line(self) -> str:
        """Return the last line that it has printed."""
        data = self._output.read_bytes()[-4096:].decode(errors="replace")
        lines = [line.strip() for line in data.replace("\r", "\n").split("\n") if line.strip()]
        return lines[-1] if lines else ""

    def stop(self):
        """End it as Ctrl-C does, so that it can go on later."""
        if self.is_running:
            self._process.terminate()
            self._process.wait()


class ReviewSession:
    """The state of a review, which all windows of the page share.

    Args:
      photograph: file of the image or mosaic.
      folder: of the project, which is made if it does not exist.
      checkpoint: of the model before any round; None for the packaged one that suits.
      options: further arguments of `eal-icnet review-list`.
      training_options: further arguments of `eal-icnet finetune`.

    Attributes:
      photograph: the image.
      name: of it, without ending.
      log: of the strokes.
      pixels: the pyramid of the photograph as it is shown.
      squares: to look at, the worst first.
      masks: the pyramid of each predicted mask.
      uncertainty: the pyramid of the first output's uncertainty.
      prediction: number that grows with every prediction that is opened, and when the first squares
        of a new one are there.
      state: a sentence about what runs in the background.
      has_failed: whether the sentence says why it failed.

    Raises:
      UserError: the photograph cannot be read or is another one, or the project is in use or cannot
        be written.
    """

    def __init__(
        self,
        photograph: pathlib.Path,
        folder: pathlib.Path,
        checkpoint: str | None = None,
        options: Sequence[str] = (),
        training_options: Sequence[str] = (),
    ):
        self.photograph = mosaic_files.open_mosaic(photograph)
        self.folder, self._checkpoint = folder, checkpoint
        self._options, self._training_options = tuple(options), tuple(training_options)
        self.name = image_folders.stem_of(photograph)
        self._job: Job | None = None
        self._kind = ""
        self.squares: list[ListedSquare] = []
        self._list: pathlib.Path | None = None
        self._first: list[SquareMask] = []
        self.prediction, self.state, self.has_failed = 0, "", False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(
                folder / "lock", f"{folder} is in use: another review of this project runs"
            )
        except OSError as error:
            raise cannot_be_written(folder, error) from error
        header = self.photograph.stamp()
        self._check_photograph(header)
        self.log = StrokeLog(folder / "strokes.jsonl", header)
        self.pixels = photograph_pyramid(self.photograph, folder / "photograph.zarr")

    def _check_photograph(self, header: dict):
        record = self.folder / "photograph.json"
        if not record.exists():
            write_atomically(record, json.dumps({"photograph": header}) + "\n")
            return
        try:
            recorded = json.loads(record.read_text())["photograph"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{record} is damaged: name another --project") from error
        if recorded != header:
            raise UserError(
                f"{self.folder} is the project of {recorded.get('input')}, and "
                f"{self.photograph.path} is another photograph or has changed since: name another "
                "--project, or put the former one back"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """The height and width of the photograph."""
        return self.photograph.shape

    def _project(self) -> Project:
        (self.folder / "train").mkdir(exist_ok=True)
        return Project(self.folder)

    def model(self) -> pathlib.Path | None:
        """Return the work directory of the model in use; None for the one before any round."""
        if not (self.folder / "models").is_dir():
            return None
        return self._project().current_model()

    def prediction_folder(self) -> pathlib.Path:
        """Return the folder of the prediction of the model in use."""
        model = self.model()
        return self.folder / "predictions" / (model.name if model else "000")

    def has_prediction(self) -> bool:
        """Return whether the model in use has predicted the photograph."""
        return (self.prediction_folder() / "places.json").exists()

    def prediction_arguments(self) -> list[str]:
        """Return the arguments of the command that predicts with the model in use."""
        model = self.model() or self._checkpoint
        return [
            "review-list", str(self.photograph.path), f"--output={self.prediction_folder()}",
            "--format=zarr", *([f"--checkpoint={model}"] if model else []), *self._options,
            *([f"--first={self._list}"] if self._list else []),
        ]  # fmt: skip

    def open_prediction(self):
        """Read the prediction of the model in use, and its places.

        Raises:
          UserError: it is damaged.
        """
        folder = self.prediction_folder()
        try:
            squares = read_squares(folder / "places.json")
            found = {path.name: Pyramid(path) for path in folder.glob("*.zarr")}
            names = sorted(name for name in found if name.endswith("_uncertainty.zarr"))
            outputs = [name.removesuffix("_uncertainty.zarr") for name in names]
            outputs.sort(key=lambda name: name.endswith("_via"))
            self.masks = {
                layer: found[f"{output}.zarr"]
                for layer, output in zip((METAL, VIA), outputs, strict=False)
            }
            self.uncertainty = found[f"{outputs[0]}_uncertainty.zarr"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(f"{folder} is damaged ({error}): remove it") from error
        self.squares, self._list = squares, folder / "places.json"
        self.prediction += 1

    def _open_first_squares(self):
        """Show the squares that the running prediction has done before the rest."""
        if not self._first and self._list != self.prediction_folder() / "places.json":
            with contextlib.suppress(UserError):  # the whole prediction will show them
                self._first = read_masks(self.prediction_folder())
            self.prediction += bool(self._first)

    def _end_job(self):
        """Note that nothing runs any longer, and show what is there of the model in use."""
        self._job = None
        self.prediction += bool(self._first)
        self._first = []

    def mask_part(
        self, layer: str, left: float, top: float, right: float, bottom: float, most: int
    ) -> Part:
        """Return a part of a corrected mask, bool; of `UNKNOWN` and `SEEN` what strokes say.

        Args:
          layer: of `strokes.LAYERS`, or `SEEN`.
          left: see `Pyramid.part`.
          top: likewise.
          right: likewise.
          bottom: likewise.
          most: likewise.
        """
        base = self.masks.get(layer, self.pixels)
        part = base.part(left, top, right, bottom, most)
        mask = part.pixels > 127 if layer in self.masks else np.zeros(part.pixels.shape[:2], bool)
        for square in self._first:
            if (METAL, VIA)[square.output : square.output + 1] == (layer,):
                square.put_into(mask, part.left, part.top, part.scale)
        return part._replace(
            pixels=painted(mask, self.log.strokes, layer, part.left, part.top, part.scale)
        )

    def is_seen(self, square: ListedSquare) -> bool:
        """Return whether a person has marked a square as seen."""
        x, y = square.left + square.width // 2, square.top + square.height // 2
        return bool(self.mask_part(SEEN, x, y, x + 1, y + 1, 8).pixels.any())

    def mark_seen(self, square: ListedSquare):
        """Mark a square as seen, so that all of it counts."""
        right, bottom = square.left + square.width, square.top + square.height
        corners = ((square.left, square.top), (right, square.top), (right, bottom),
                   (square.left, bottom))  # fmt: skip
        self.log.add(Stroke(SEEN, True, "area", tuple((float(x), float(y)) for x, y in corners)))

    def windows(self) -> list[tuple[int, int, int, int]]:
        """Return left, top, width and height of the squares to train on: around what was seen."""
        height, width = self.shape
        chosen: list[tuple[int, int, int, int]] = []
        for stroke in self.log.strokes:
            x0, y0, x1, y1 = stroke.box
            if any(
                left <= x0 and top <= y0 and x1 <= left + w and y1 <= top + h
                for left, top, w, h in chosen
            ):
                continue
            # A long stroke is covered by several squares.
            for y in np.arange(y0, max(y1, y0 + 1), SIDE):
                for x in np.arange(x0, max(x1, x0 + 1), SIDE):
                    centre = min(x + SIDE / 2, (x + x1) / 2), min(y + SIDE / 2, (y + y1) / 2)
                    sides = min(SIDE, width), min(SIDE, height)
                    corner = [
                        int(np.clip(round(c - side / 2), 0, length - side))
                        for c, side, length in zip(centre, sides, (width, height), strict=True)
                    ]
                    window = (*corner, *sides)
                    if window not in chosen:
                        chosen.append(window)
        return chosen

    def export(self) -> int:
        """Write the corrected squares as a folder to train on, in place of the former ones.

        A pixel counts if it was seen, or lies near a stroke, and is not marked as unknown.

        Returns:
          The number of squares.

        Raises:
          UserError: they cannot be written.
        """
        train, written = self.folder / "train", 0
        for kind in ("image", "label", "via_label", "ignore"):
            for path in (train / kind).glob(f"{glob.escape(self.name)}_y*_x*.png"):
                path.unlink()
        near = [
            Stroke(SEEN, True, s.shape, s.points, s.width + 2 * NEAR)
            if s.shape != "area"
            else Stroke(SEEN, True, "line", (*s.points, s.points[0]), 2.0 * NEAR)
            for s in self.log.strokes
            if s.layer in (METAL, VIA)
        ]
        near += [
            Stroke(SEEN, True, "area", s.points)
            for s in self.log.strokes
            if s.layer in (METAL, VIA) and s.shape == "area"
        ]
        for left, top, width, height in self.windows():
            box = left, top, left + width, top + height
            masks = {
                layer: self.mask_part(layer, *box, max(width, height)).pixels
                for layer in (METAL, VIA, UNKNOWN, SEEN)
            }
            counts = painted(masks[SEEN], near, SEEN, left, top) & ~masks[UNKNOWN]
            if not counts.any():
                continue
            content = {
                "image": self._original(*box),
                "label": masks[METAL],
                "ignore": ~counts,
                **({"via_label": masks[VIA]} if VIA in self.masks else {}),
            }
            for kind, pixels in content.items():
                path = train / kind / f"{self.name}_y{top:05}_x{left:05}.png"
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise cannot_be_written(path.parent, error) from error
                png.write(path, np.where(pixels, 255, 0).astype(np.uint8)
                          if pixels.dtype == bool else pixels)  # fmt: skip
            written += 1
        return written

    def _original(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        """Return a part of the photograph as its file holds it."""
        return self.photograph[slice(top, bottom), slice(left, right)]

    def start_prediction(self):
        """Predict with the model in use, in the background."""
        self.prediction_folder().mkdir(parents=True, exist_ok=True)
        self._start(self.prediction_arguments(), "predict")

    def start_training(self):
        """Train a round on the corrected squares, in the background, and then predict.

        If the prediction of the model in use was stopped, it goes on instead.

        Raises:
          UserError: nothing was corrected yet.
        """
        if not self.export():
            raise UserError("nothing is corrected yet: mark a square as seen, or draw a stroke")
        if self.model() and not self.has_prediction():
            self.start_prediction()
            return
        checkpoint = [f"--checkpoint={self._checkpoint}"] if self._checkpoint else []
        self._start(
            ["finetune", f"--project={self.folder}", *checkpoint, *self._training_options], "train"
        )

    def _start(self, arguments: list[str], kind: str):
        self._check_idle()
        self._job, self._kind = Job(arguments, self.folder / f"{kind}.log"), kind
        self.state, self.has_failed = f"{kind}: starting", False

    def _check_idle(self):
        if self._job is not None:
            raise UserError("a training or a prediction runs already: wait for it")

    def wait(self):
        """Wait for what runs in the background.

        Raises:
          UserError: it failed.
        """
        while self._job is not None:
            time.sleep(0.2)
            self.look()
        if self.has_failed:
            raise UserError(self.state)

    def look(self):
        """Look at what runs in the background, and go on when it has ended."""
        job = self._job
        if job is None:
            return
        if self._kind == "predict":
            self._open_first_squares()
        if job.is_running:
            shown = "the places are new; " if self._first else ""
            self.state = f"{self._kind}: {shown}{job.last_line()}"
            return
        self._end_job()
        try:
            if job.has_failed:
                raise UserError(job.last_line().removeprefix("error: "))
            if self._kind == "train" and not self.has_prediction():
                self.start_prediction()
            else:
                self.open_prediction()
                self.state = "predicted"
        except UserError as error:
            self.state, self.has_failed = str(error), True

    def stop(self):
        """Stop what runs in the background. A training then goes on when it is started again.

        Raises:
          UserError: nothing runs.
        """
        if self._job is None:
            raise UserError("nothing runs that could be stopped")
        self._job.stop()
        self._end_job()
        again = "starting it again" if self._kind == "train" else "learn"
        self.state = f"{self._kind}: stopped; {again} goes on"

    def go_back(self) -> pathlib.Path | None:
        """Use the model before, and its prediction.

        Raises:
          UserError: there is none, or something runs in the background.
        """
        self._check_idle()
        model = self._project().go_back()
        if self.has_prediction():
            self.open_prediction()
            self.state = f"in use: {f'round {int(model.name)}' if model else 'the first model'}"
        else:
            self.start_prediction()
        return model

    def losses(self) -> list[float]:
        """Return the losses that the newest round has logged."""
        rounds = self._project().rounds() if (self.folder / "models").is_dir() else []
        if not rounds or not (log := rounds[-1] / "metrics.jsonl").exists():
            return []
        records = []
        for line in log.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:  # is being written
                break
        return [record["loss"] for record in records if "loss" in record]

    def close(self):
        """End what runs in the background, and let others use the project."""
        if self._job is not None:
            self._job.stop()
        self._lock.release()
