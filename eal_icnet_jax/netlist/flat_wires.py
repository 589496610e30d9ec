"""Wires and vias of several layers in one plane, for a program that knows no layers.

Deroute leaves out wires shorter than a lambda when it opens a file (RemoveSmallWires in
EntityBox/DeleteEntity.cs). When it follows a net, it joins wires whose ends are less than 0.7
lambda apart, and a via with the wires that pass it within 0.7 lambda (EntityBox/Traverse.cs). So
that it finds the nets of a stack, a short wire becomes one place here, and places of two nets that
come too close to each other are moved within their metal.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import shapely

SHORTEST = 1.05
"""Length in pixels from which on a wire is kept."""

APART = 0.75
"""Distance in pixels from which on two ends are not joined, nor a via with a wire."""

STEPS = (1.0, 2.0, 3.0)
"""Distances in pixels by which a place is moved, the smallest that helps."""

ROUNDS = 6
"""Number of times that places are moved before those still too close are only counted."""

_ANGLES = np.arange(8) * np.pi / 4
DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


class FlatWires(NamedTuple):
    """Wires and vias in one plane. Places are x and y in pixels, y downwards.

    wires: `[W, 2, 2]` the ends of each wire.
    wire_nets: `[W]` the net of each.
    wire_widths: `[W]` in pixels.
    vias: `[V, 2]` the place of each via.
    via_nets, via_widths: `[V]` as of the wires.
    """

    wires: np.ndarray
    wire_nets: np.ndarray
    wire_widths: np.ndarray
    vias: np.ndarray
    via_nets: np.ndarray
    via_widths: np.ndarray


def keep_apart(drawn: FlatWires) -> tuple[FlatWires, int]:
    """Return wires and vias so that only those of a net meet.

    Args:
      drawn: of all layers. Wires of a net meet where their ends are equal to a hundredth of a
        pixel.

    Returns:
      The wires and vias, and the number of places at which different nets are still too close.
    """
    plane = _Plane(drawn)
    plane.make_short_wires_one_place()
    plane.lengthen_dots()
    plane.measure_room()
    for attempt in range(ROUNDS + 1):
        close = plane.too_close(with_most_room=attempt % 2 == 0)
        if not len(close) or attempt == ROUNDS:
            break
        plane.move_apart(close)
    flat = FlatWires(
        plane.places[plane.ends], plane.nets[plane.ends[:, 0]], plane.widths,
        plane.places[plane.vias], plane.nets[plane.vias], plane.via_widths,
    )  # fmt: skip
    return flat, len(close)


class _Plane:
    """Places, the wires between them, and the vias on them.

    places: `[P, 2]` x and y in pixels.
    nets: `[P]` the net of each place.
    ends: `[W, 2]` the places at the ends of each wire.
    vias: `[V]` the place of each via.
    room: `[P]` how far a place can be moved within the narrowest of its wires and vias.
    """

    def __init__(self, drawn: FlatWires):
        ends = drawn.wires.reshape(-1, 2)
        places = np.concatenate([ends, drawn.vias])
        nets = np.concatenate([np.repeat(drawn.wire_nets, 2), drawn.via_nets])
        keys = np.concatenate([nets[:, None], np.round(places, 2)], 1)
        _, firsts, numbers = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        numbers = numbers.reshape(-1)
        self.places, self.nets = places[firsts], nets[firsts]
        self.ends, self.vias = numbers[: len(ends)].reshape(-1, 2), numbers[len(ends) :]
        self.widths, self.via_widths = drawn.wire_widths, drawn.via_widths

    def make_short_wires_one_place(self):
        """Make one place of both ends of each short wire: that of a via, if one has any."""
        has_via = np.zeros(len(self.places), bool)
        has_via[self.vias] = True
        while True:
            lengths = np.linalg.norm(np.diff(self.places[self.ends], axis=1)[:, 0], axis=1)
            short = np.flatnonzero(lengths < SHORTEST)
            if not len(short):
                return
            becomes = np.arange(len(self.places))
            changed: set[int] = set()
            for start, end in self.ends[short].tolist():
                if start not in changed and end not in changed:
                    changed |= {start, end}
                    kept, left = (end, start) if has_via[end] else (start, end)
                    becomes[left] = kept
            self.ends, self.vias = becomes[self.ends], becomes[self.vias]
            kept_wires = self.ends[:, 0] != self.ends[:, 1]
            self.ends, self.widths = self.ends[kept_wires], self.widths[kept_wires]

    def lengthen_dots(self):
        """Give a wire of the shortest length to each net that has none left, at a via if any."""
        without = np.setdiff1d(self.nets, self.nets[self.ends[:, 0]])
        at = {net: place for place, net in enumerate(self.nets.tolist())}
        at |= {int(self.nets[place]): place for place in self.vias.tolist()}
        dots = np.array([at[net] for net in without.tolist()], int)
        others = len(self.places) + np.arange(len(dots))
        self.places = np.concatenate([self.places, self.places[dots] + (SHORTEST, 0)])
        self.nets = np.concatenate([self.nets, self.nets[dots]])
        self.ends = np.concatenate([self.ends, np.stack([dots, others], 1)])
        self.widths = np.concatenate([self.widths, np.ones(len(dots))])

    def measure_room(self):
        """Measure how far each place can be moved."""
        self.room = np.full(len(self.places), np.inf)
        for column in self.ends.T:
            np.minimum.at(self.room, column, self.widths / 2 - 0.5)
        np.minimum.at(self.room, self.vias, self.via_widths / 2 - 0.5)

    def too_close(self, with_most_room: bool) -> np.ndarray:
        """Return the places that are too close to another net: one of two, and all such vias.

        Args:
          with_most_room: whether of two places the one that can be moved further is meant.
        """
        self._index()
        via, line = self.lines.query(self._squares(self.places[self.vias]), predicate="intersects")
        foreign = self.nets[self.vias[via]] != self.nets[self.ends[line, 0]]
        pairs = self.used[self.points.query(self.points.geometries, "dwithin", APART)].T
        pairs = pairs[self.nets[pairs[:, 0]] < self.nets[pairs[:, 1]]]
        first_has_most = self.room[pairs[:, 0]] >= self.room[pairs[:, 1]]
        of_two = np.where(first_has_most == with_most_room, pairs[:, 0], pairs[:, 1])
        return np.unique(np.concatenate([self.vias[via[foreign]], of_two]))

    def move_apart(self, close: np.ndarray):
        """Move each of these places within its metal to where no other net is near, if any is."""
        for place in close.tolist():
            for new in self._around(place):
                if self._is_free(place, new):
                    self.places[place] = new
                    break

    def _around(self, place: int) -> Iterator[np.ndarray]:
        """Yield places near one, the nearest first."""
        for step in STEPS:
            if step <= self.room[place]:
                yield from self.places[place] + step * DIRECTIONS

    def _is_free(self, place: int, new: np.ndarray) -> bool:
        """Say whether a place could be moved without coming close to another net."""
        net = self.nets[place]
        used = self.used[self.points.query(shapely.Point(new), "dwithin", APART)]
        if (self.nets[used] != net).any():
            return False
        others = self.ends[self.wires_at[place]]
        others = np.where(others[:, 0] == place, others[:, 1], others[:, 0])
        ends = np.stack([np.broadcast_to(new, (len(others), 2)), self.places[others]], 1)
        if (np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) < SHORTEST).any():
            return False
        _, via = self.squares.query(shapely.linestrings(ends), "intersects")
        if (self.nets[self.vias[via]] != net).any():
            return False
        if place not in self.has_via:
            return True
        line = self.lines.query(self._squares(new[None])[0], "intersects")
        return bool((self.nets[self.ends[line, 0]] == net).all())

    def _index(self):
        """Index places, wires and vias by where they are."""
        self.used = np.unique(self.ends)
        self.points = shapely.STRtree(shapely.points(self.places[self.used]))
        self.lines = shapely.STRtree(shapely.linestrings(self.places[self.ends]))
        self.squares = shapely.STRtree(self._squares(self.places[self.vias]))
        self.has_via = set(self.vias.tolist())
        self.wires_at: dict[int, list[int]] = {}
        for wire, ends in enumerate(self.ends.tolist()):
            for place in ends:
                self.wires_at.setdefault(place, []).append(wire)

    @staticmethod
    def _squares(places: np.ndarray) -> np.ndarray:
        """Return the square around each place in which Deroute looks for wires."""
        return shapely.box(*(places - APART).T, *(places + APART).T)
