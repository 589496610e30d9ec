"""Corrections as strokes: their file, which only grows, undo and redo, and their pixels.

A stroke is a line of a width, an area or a disk that adds to a mask or erases from it. A person
sees the prediction with all strokes upon it, in their order. So nothing has to be stored but the
strokes: one line of JSON each, on the disk before it is shown.
"""

import dataclasses
import errno
import itertools
import json
import math
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import cannot_be_read, cannot_be_written

METAL, VIA, UNKNOWN = "metal", "via", "unknown"

LAYERS = METAL, VIA, UNKNOWN
"""Masks that strokes change. What is unknown does not count in training."""

SHAPES = "line", "area", "disk"
"""Forms of a stroke."""

SEEN = "seen"
"""Layer of the areas that a person has looked at, so that what is right there counts too."""

MOST_POINTS, LARGEST_COORDINATE, LARGEST_WIDTH = 20_000, 1e6, 4096
"""Bounds of a stroke, beyond which a file is not one of this program."""

MOST_BYTES = 2**28
"""Largest file of strokes that is read."""


@dataclasses.dataclass(frozen=True)
class Stroke:
    """A stroke, in pixels of the photograph from its upper-left corner.

    Attributes:
      layer: of `LAYERS`, or `SEEN`.
      adds: whether pixels are added to the mask; otherwise they are erased.
      shape: of `SHAPES`.
      points: (x, y) of the line, of the area's corners, or of the disk's centre.
      width: of the line, or diameter of the disk; 0 for an area.

    Raises:
      ValueError: a value makes no sense.
    """

    layer: str
    adds: bool
    shape: str
    points: tuple[tuple[float, float], ...]
    width: float = 0.0

    def __post_init__(self):
        least = {"line": 1, "area": 3, "disk": 1}.get(self.shape, math.inf)
        if self.layer not in (*LAYERS, SEEN) or not least <= len(self.points) <= MOST_POINTS:
            raise ValueError(f"no stroke of {len(self.points)} points on the layer {self.layer}")
        numbers = np.array(self.points, float)
        if numbers.shape != (len(self.points), 2) or not (abs(numbers) < LARGEST_COORDINATE).all():
            raise ValueError("its points lie too far away")
        if not 0 <= self.width <= LARGEST_WIDTH or (self.shape != "area" and self.width < 0.5):
            raise ValueError(f"its width is {self.width}")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The left, top, right and bottom ends of the stroke."""
        points = np.array(self.points)
        low, high = points.min(0) - self.width / 2, points.max(0) + self.width / 2
        return (*map(float, low), *map(float, high))

    def to_json(self) -> dict:
        """Return a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict) -> "Stroke":
        """Return a stroke from its JSON object.

        Raises:
          ValueError, TypeError, KeyError: it is none.
        """
        return cls(
            str(content["layer"]),
            bool(content["adds"]),
            str(content["shape"]),
            tuple((float(x), float(y)) for x, y in content["points"]),
            float(content["width"]),
        )

    def paint(self, mask: np.ndarray, left: float, top: float, scale: float):
        """Draw the stroke into a part of its mask.

        Args:
          mask: `[h, w]` uint8, is set to 1 or 0.
          left: column of the photograph at the part's left edge.
          top: row at its upper edge.
          scale: pixels of the part in a pixel of the photograph, 1 or less.
        """
        points = (np.array(self.points) - (left, top)) * scale
        if self.shape == "area":
            inside = _inside(points, *mask.shape)
            mask[inside] = self.adds
            return
        radius = max(self.width * scale / 2, 0.5)
        for start, end in itertools.pairwise(points if len(points) > 1 else [*points, *points]):
            rows, columns = _touched(start, end, radius, mask.shape)
            near = _is_near(start, end, radius, rows, columns)
            mask[rows, columns][near] = self.adds


def _touched(start, end, radius: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns that a thick line from one point to another may touch."""
    low, high = np.minimum(start, end) - radius, np.maximum(start, end) + radius
    first = np.clip(np.floor(low), 0, shape[1::-1]).astype(int)
    stop = np.clip(np.ceil(high), 0, shape[1::-1]).astype(int)
    return slice(first[1], stop[1]), slice(first[0], stop[0])


def _is_near(start, end, radius: float, rows: slice, columns: slice) -> np.ndarray:
    """Return which pixels have their centre within a distance of a line, `[h, w]` bool."""
    y = np.arange(rows.start, rows.stop)[:, None] + 0.5 - start[1]
    x = np.arange(columns.start, columns.stop)[None] + 0.5 - start[0]
    dx, dy = end - start
    along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
    return (x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius**2


def _inside(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return which pixels have their centre in a polygon by the even-odd rule, `[h, w]` bool."""
    flips = np.zeros((height, width + 1), np.uint8)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if y0 == y1:
            continue
        # Rows whose centre lies from the upper end of the edge up to, but not at, the lower one.
        first, stop = np.clip(np.ceil(np.sort((y0, y1)) - 0.5), 0, height).astype(int)
        rows = np.arange(first, stop)
        crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
        np.bitwise_xor.at(flips, (rows, columns), 1)
    return np.bitwise_xor.accumulate(flips, axis=1)[:, :width] > 0


class StrokeLog:
    """The strokes of a photograph in a file, which every change is appended to.

    Undoing appends a line, too. What a killed process left half-written at the end is dropped.

    Args:
      path: of the file, which is made with its first line if it does not exist.
      header: JSON object of the photograph, which the first line holds.

    Attributes:
      strokes: that count, in their order.
      version: number that grows with every change.

    Raises:
      UserError: the file is of another photograph, damaged, or cannot be read or written.
    """

    def __init__(self, path: pathlib.Path, header: dict):
        self.path = path
        self.strokes: list[Stroke] = []
        self._undone: list[Stroke] = []
        self.version = 0
        if path.exists():
            self._read(header)
        else:
            self._append({"photograph": header})

    def _read(self, header: dict):
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise UserError(f"{self.path} is too large to be a file of strokes: remove it")
            data = self.path.read_bytes()
        except OSError as error:
            raise cannot_be_read(self.path, error) from error
        complete, _, rest = data.rpartition(b"\n")
        try:
            lines = [json.loads(line) for line in complete.split(b"\n")]
            if lines[0]["photograph"] != header:
                raise UserError(
                    f"{self.path} holds corrections of another photograph, or the photograph has "
                    "changed: name another --project, or put the former photograph back"
                )
            for line in lines[1:]:
                self._apply(line)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{self.path} is damaged ({type(error).__name__}): remove its last lines, or name "
                "another --project"
            ) from error
        if rest:
            try:
                os.truncate(self.path, len(complete) + 1)
            except OSError as error:
                raise cannot_be_written(self.path, error) from error

    def _apply(self, line: dict):
        """Change the strokes as a line of the file says."""
        match line.get("do"):
            case "add":
                self.strokes.append(Stroke.from_json(line["stroke"]))
                self._undone.clear()
            case "undo":
                self._undone.append(self.strokes.pop())
            case "redo":
                self.strokes.append(self._undone.pop())
            case other:
                raise ValueError(f"unknown change {other}")
        self.version += 1

    def _append(self, line: dict):
        """Write a line, completely or not at all, so that it survives a loss of power."""
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    if file.write(data) != len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise cannot_be_written(self.path, error) from error

    def _change(self, line: dict):
        self._append(line)
        self._apply(line)

    def add(self, stroke: Stroke):
        """Add a stroke. What was undone before cannot be redone any more."""
        self._change({"do": "add", "stroke": stroke.to_json()})

    def undo(self) -> bool:
        """Take the last stroke back; return whether there was one."""
        if self.strokes:
            self._change({"do": "undo"})
            return True
        return False

    def redo(self) -> bool:
        """Add the stroke that was undone last again; return whether there was one."""
        if self._undone:
            self._change({"do": "redo"})
            return True
        return False


def painted(
    mask: np.ndarray,
    strokes: Iterable[Stroke],
    layer: str,
    left: float = 0.0,
    top: float = 0.0,
    scale: float = 1.0,
) -> np.ndarray:
    """Return a part of a mask `[h, w]` bool with the strokes of its layer.

    Args:
      mask: `[h, w]`, non-zero is inside.
      strokes: in their order.
      layer: of `LAYERS`, or `SEEN`.
      left: column of the photograph at the part's left edge.
      top: row at its upper edge.
      scale: pixels of the part in a pixel of the photograph.
    """
    out = (np.asarray(mask) != 0).astype(np.uint8)
    right, bottom = left + out.shape[1] / scale, top + out.shape[0] / scale
    for stroke in strokes:
        if stroke.layer == layer:
            x0, y0, x1, y1 = stroke.box
            if x0 < right and x1 > left and y0 < bottom and y1 > top:
                stroke.paint(out, left, top, scale)
    return out.astype(bool)
