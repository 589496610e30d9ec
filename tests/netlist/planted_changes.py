"""Changes of a drawn layer whose places are known."""

import cv2
import numpy as np

APART = 50
"""Smallest distance in pixels of two changes."""


def plant(metal: np.ndarray, via: np.ndarray, counts: dict[str, int], seed: int):
    """Change copies of masks, and return them with the kind and place (x, y) of each change.

    Args:
      metal: `[H, W]` bool.
      via: `[H, W]` bool.
      counts: how many changes of each kind: "cut", "bridge", "missing via", "added via", "moved",
        "thinned".
      seed: of their places.
    """
    rng = np.random.default_rng(seed)
    metal, via, places = metal.copy(), via.copy(), []
    half = cv2.distanceTransform(metal.astype(np.uint8), cv2.DIST_L2, 5)
    height, width = metal.shape

    def is_free(x, y):
        inside = 70 < x < width - 70 and 70 < y < height - 70
        return inside and all(np.hypot(x - u, y - v) > APART for _, u, v in places)

    def candidates(mask):
        rows, columns = np.nonzero(mask)
        order = rng.permutation(len(rows))
        return ((int(columns[k]), int(rows[k])) for k in order)

    middle = metal & (half >= cv2.dilate(half, np.ones((3, 3)))) & (half > 5) & (half < 16)
    for kind, count in counts.items():
        left = count
        if kind in ("cut", "thinned"):
            for x, y in candidates(middle):
                if left and is_free(x, y):
                    reach = int(half[y, x]) + 4
                    if kind == "cut":
                        metal[y - reach : y + reach, x - 3 : x + 4] = False
                        metal[y - 3 : y + 4, x - reach : x + reach] = False
                    else:
                        window = slice(y - 30, y + 30), slice(x - 30, x + 30)
                        metal[window] &= half[window] > 3.2
                    places.append((kind, x, y))
                    left -= 1
        elif kind == "bridge":
            for x, y in candidates(middle):
                gap = np.flatnonzero(~metal[y, x : x + 120])
                if not (left and is_free(x, y) and len(gap)):
                    continue
                first = x + gap[0]
                end = np.flatnonzero(metal[y, first : first + 60])
                if len(end) and end[0] > 8 and is_free(first + end[0] // 2, y):
                    metal[y - 3 : y + 4, first - 2 : first + end[0] + 2] = True
                    places.append((kind, int(first + end[0] // 2), y))
                    left -= 1
        elif kind == "missing via":
            _, regions, boxes, middles = cv2.connectedComponentsWithStats(via.astype(np.uint8))
            for k in rng.permutation(np.arange(1, len(boxes))):
                x, y = (int(value) for value in middles[k])
                if left and is_free(x, y):
                    via[regions == k] = False
                    places.append((kind, x, y))
                    left -= 1
        elif kind == "added via":
            near = cv2.dilate(via.astype(np.uint8), np.ones((61, 61))) > 0
            for x, y in candidates(middle & ~near):
                if left and is_free(x, y):
                    spot = via.astype(np.uint8)
                    cv2.circle(spot, (x, y), 5, 1, -1)
                    via = spot > 0
                    places.append((kind, x, y))
                    left -= 1
        elif kind == "moved":
            _, regions, boxes, middles = cv2.connectedComponentsWithStats(metal.astype(np.uint8))
            for k in rng.permutation(np.arange(1, len(boxes))):
                x, y = (int(value) for value in middles[k])
                wire = regions == k
                moved = np.roll(wire, (4, 4), (0, 1))
                grown = cv2.dilate(moved.astype(np.uint8), np.ones((9, 9))) > 0
                if (
                    left and 300 < boxes[k, 4] < 6000 and boxes[k, 2:4].max() < 160
                    and is_free(x, y) and not (grown & metal & ~wire).any()
                ):  # fmt: skip
                    metal[wire] = False
                    metal |= moved
                    places.append((kind, x, y))
                    left -= 1
        assert not left, f"{left} places too few for {kind}"
    return metal, via, places
