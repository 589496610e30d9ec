"""The page on which a person corrects a prediction: a Bokeh document over a `ReviewSession`.

Every window has a page of its own, and all share the session. Coordinates on the page are pixels of
the photograph, with y upwards as Bokeh has it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from bokeh import events
from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    ColumnDataSource,
    CustomJS,
    Div,
    FreehandDrawTool,
    PanTool,
    Range1d,
    Select,
    Slider,
    TextInput,
    WheelZoomTool,
)
from bokeh.plotting import figure
from bokeh.themes import built_in_themes

from eal_icnet_jax.imaging.overlays import BLUE, ORANGE, RED_PURPLE, SKY_BLUE
from eal_icnet_jax.review.review_list import ListedSquare
from eal_icnet_jax.review.session import ReviewSession
from eal_icnet_jax.review.strokes import METAL, UNKNOWN, VIA, Stroke
from eal_icnet_jax.system.errors import UserError

WIDTH, HEIGHT = 1000, 720
"""Size of the photograph on the page in pixels of the screen."""

MARGIN = 0.25
"""Part of the view that is drawn beyond each of its edges, so that panning shows no gap."""

DELAY_MS, POLL_MS = 40, 1000
"""Time until a view that moved is drawn, and between looks at what other windows did."""

COLOURS = {METAL: ORANGE, VIA: SKY_BLUE, UNKNOWN: RED_PURPLE}
"""Colours of Okabe and Ito's palette."""

YELLOW = 240, 228, 66
"""Colour of the uncertainty, likewise."""

TOOLS = {
    "move": "m", "brush": "b", "wire": "w", "area": "a", "via": "v",
}  # fmt: skip
"""What a drag or a click does, and its key."""

HINTS = {
    "move": "Drag moves the view, the wheel zooms.",
    "brush": "Drag draws.",
    "wire": "Click the points of a wire; Enter or a double click ends it.",
    "area": "Click the corners of an area; Enter or a double click ends it.",
    "via": "A click sets a via.",
}

KEYS = (
    "n, p: next and previous place · s: seen, next · m, b, w, a, v: move, brush, wire, area, via · "
    "1, 2, 3: metal, via, unknown · e: add or erase · + and -: width · z, y: undo, redo · "
    "Enter, Esc: end or leave a line · o: hide the masks"
)

KEY_SCRIPT = """
document.addEventListener('keydown', event => {
  if (event.target.tagName === 'INPUT' || event.ctrlKey || event.metaKey || event.altKey) return
  if (event.composedPath()[0].tagName === 'INPUT') return
  input.value = event.key + ' ' + event.timeStamp
})
"""
"""Hands keys to the server."""

COLOURS_SCRIPT = """
const [background, text] = {light: ['#ffffff', '#202020'], dark: ['#15191c', '#e6e6e6']}[this.value]
Object.assign(document.body.style, {background: background, color: text})
"""
"""Colours of the page itself, which Bokeh's themes leave as they are."""


def packed(colour: tuple[int, int, int], alpha: np.ndarray) -> np.ndarray:
    """Return pixels `[h, w]` uint32, as Bokeh takes them, of one colour and an opacity 0 to 255."""
    out = np.empty((*alpha.shape, 4), np.uint8)
    out[..., :3], out[..., 3] = colour, alpha
    return out.view(np.uint32)[..., 0]


@dataclasses.dataclass
class Mode:
    """What the next stroke will be."""

    tool: str = "move"
    layer: str = METAL
    adds: bool = True
    width: float = 8.0


class ReviewPage:
    """The page of one window.

    Args:
      document: of the window.
      session: that all windows share.
    """

    def __init__(self, document: Document, session: ReviewSession):
        self._document, self._session = document, session
        self._height = session.shape[0]
        self.mode = Mode(width=float(np.clip(max(session.shape) // 200, 2, 12)))
        self._square = -1
        self._points: list[tuple[float, float]] = []
        self._pending = False
        self._drawn = self._shown_state = None
        self._masks_are_hidden = False
        self._make_figure()
        self._make_controls()
        document.title = f"Review of {session.name}"
        document.add_periodic_callback(self._poll, POLL_MS)
        self._show_mode()
        self.draw()

    def _make_figure(self):
        height, width = self._session.shape
        extent = max(width / WIDTH, height / HEIGHT)
        middle = width / 2, height / 2
        spans = [(m - extent * size / 2, m + extent * size / 2)
                 for m, size in zip(middle, (WIDTH, HEIGHT), strict=True)]  # fmt: skip
        self.figure = figure(
            width=WIDTH, height=HEIGHT, x_range=Range1d(*spans[0]), y_range=Range1d(*spans[1]),
            match_aspect=True, tools=[], toolbar_location=None, name="view",
        )  # fmt: skip
        self.figure.axis.visible = self.figure.grid.visible = False
        self.figure.min_border = 0
        self._images = {}
        for name in ("photograph", "uncertainty", METAL, VIA, UNKNOWN):
            empty: dict = {"image": [], "x": [], "y": [], "dw": [], "dh": []}
            source = ColumnDataSource(empty, name=name)
            alpha = {"photograph": 1.0, "uncertainty": 0.0}.get(name, 0.45)
            renderer = self.figure.image_rgba(
                image="image", x="x", y="y", dw="dw", dh="dh", source=source, global_alpha=alpha
            )
            self._images[name] = source, renderer
        self._line = ColumnDataSource({"x": [], "y": []})
        self.figure.line("x", "y", source=self._line, line_width=2, color="white")
        self.figure.scatter("x", "y", source=self._line, size=6, color="white", line_color="black")
        self._frame = ColumnDataSource({"x": [], "y": [], "w": [], "h": []})
        self.figure.rect("x", "y", "w", "h", source=self._frame, fill_alpha=0, line_color="white",
                         line_width=2, line_dash="dashed")  # fmt: skip
        self._marks = ColumnDataSource({"x": [], "y": []})
        self.figure.scatter("x", "y", source=self._marks, size=16, fill_alpha=0, line_width=2,
                            line_color="rgb({}, {}, {})".format(*RED_PURPLE))  # fmt: skip
        self.brushed = ColumnDataSource({"xs": [], "ys": []})
        brush = self.figure.multi_line("xs", "ys", source=self.brushed, line_width=3, color="white")
        self._pan, self._brush = PanTool(), FreehandDrawTool(renderers=[brush])
        wheel = WheelZoomTool(zoom_on_axis=False)
        self.figure.add_tools(self._pan, self._brush, wheel)
        self.figure.toolbar.active_scroll = wheel
        self.brushed.on_change("data", lambda attr, old, new: self._end_brush())
        self.figure.on_event(events.RangesUpdate, lambda _: self._draw_soon())
        self.figure.on_event(events.Tap, lambda event: self.click(event.x, event.y))
        self.figure.on_event(events.DoubleTap, lambda _: self.end_line())

    def _make_controls(self):
        def button(label: str, action: Callable, kind: str = "default") -> Button:
            made = Button(label=label, button_type=kind, width=112)
            made.on_click(lambda: self._guarded(action))
            return made

        def slider(title: str, name: str) -> Slider:
            glyph = self._images[name][1].glyph
            made = Slider(
                title=title, start=0, end=1, step=0.05, value=glyph.global_alpha, width=232
            )
            made.js_link("value", glyph, "global_alpha")
            return made

        self._status = Div(width=240, text="")
        self._place = Div(width=240, text="")
        self._tool = Select(title="tool", options=list(TOOLS), value="move", width=112)
        self._layer = Select(title="mask", options=[METAL, VIA, UNKNOWN], value=METAL, width=112)
        self._action = Select(title="it does", options=["add", "erase"], value="add", width=112)
        self._width = Slider(title="width in pixels", start=1, end=64, step=1,
                             value=self.mode.width, width=112)  # fmt: skip
        for widget in (self._tool, self._layer, self._action, self._width):
            widget.on_change("value", lambda attr, old, new: self._take_mode())
        colours = Select(title="colours", options=["light", "dark"], value="light", width=112)
        colours.on_change("value", lambda attr, old, new: self._set_colours(new))
        colours.js_on_change("value", CustomJS(code=COLOURS_SCRIPT))
        key = TextInput(visible=False, name="key")
        key.on_change("value", lambda attr, old, new: self.press(new.split(" ")[0]))
        self._document.js_on_event(
            events.DocumentReady, CustomJS(args={"input": key}, code=KEY_SCRIPT)
        )
        self._losses = ColumnDataSource({"step": [], "loss": []})
        curve = figure(
            width=240, height=130, title="training loss", tools=[], toolbar_location=None
        )
        curve.line("step", "loss", source=self._losses, color="rgb({}, {}, {})".format(*BLUE))
        controls = column(
            self._place,
            row(
                button("previous (p)", lambda: self.go(-1)), button("next (n)", lambda: self.go(1))
            ),
            row(button("seen (s)", self.seen, "primary"), colours),
            row(self._tool, self._layer),
            row(self._action, self._width),
            row(button("undo (z)", self.undo), button("redo (y)", self.redo)),
            slider("opacity of metal", METAL),
            slider("opacity of vias", VIA),
            slider("opacity of the uncertainty", "uncertainty"),
            row(button("learn", self.learn, "success"), button("stop", self.stop)),
            row(button("go back", self.go_back, "warning")),
            self._status,
            curve,
            key,
        )
        self._hint = Div(width=WIDTH, text="")
        self._document.add_root(
            row(column(self.figure, self._hint, Div(text=KEYS, width=WIDTH)), controls)
        )

    def _set_colours(self, value: str):
        self._document.theme = built_in_themes[f"{value}_minimal"]

    def _guarded(self, action: Callable):
        """Do something that may fail, and show the sentence about it if it does."""
        try:
            action()
        except UserError as error:
            self._status.text = f"<b>{_escaped(str(error))}</b>"

    def press(self, key: str):
        """Do what a key means."""
        tools = {letter: tool for tool, letter in TOOLS.items()}
        layers = dict(zip("123", (METAL, VIA, UNKNOWN), strict=True))
        actions = {
            "n": lambda: self.go(1), "p": lambda: self.go(-1), "s": self.seen, "z": self.undo,
            "y": self.redo, "Enter": self.end_line, "Escape": self.leave_line,
            "e": lambda: self.set_mode(adds=not self.mode.adds),
            "+": lambda: self.set_mode(width=min(64.0, self.mode.width + 1)),
            "-": lambda: self.set_mode(width=max(1.0, self.mode.width - 1)),
            "o": self._toggle_masks,
        }  # fmt: skip
        if key in tools:
            self.set_mode(tool=tools[key])
        elif key in layers:
            self.set_mode(layer=layers[key])
        elif key in actions:
            self._guarded(actions[key])

    def set_mode(self, **changes):
        """Change what the next stroke will be."""
        self.mode = dataclasses.replace(self.mode, **changes)
        self._show_mode()

    def _take_mode(self):
        """Take the mode from the controls."""
        self.mode = Mode(self._tool.value, self._layer.value, self._action.value == "add",
                         float(self._width.value))  # fmt: skip
        self._show_mode()

    def _show_mode(self):
        mode = self.mode
        self._tool.value, self._layer.value = mode.tool, mode.layer
        self._action.value, self._width.value = "add" if mode.adds else "erase", mode.width
        self.figure.toolbar.active_drag = self._brush if mode.tool == "brush" else self._pan
        self._hint.text = HINTS[mode.tool]
        self.leave_line()

    def _toggle_masks(self):
        self._masks_are_hidden = not self._masks_are_hidden
        for name in (METAL, VIA, UNKNOWN):
            self._images[name][1].visible = not self._masks_are_hidden

    def click(self, x: float, y: float):
        """Add a point to the line or area, or set a via."""
        point = (x, self._height - y)
        if self.mode.tool == "via":
            self._add(Stroke(VIA, self.mode.adds, "disk", (point,), self.mode.width))
        elif self.mode.tool in ("wire", "area"):
            if not self._points or np.hypot(*np.subtract(point, self._points[-1])) > 0.5:
                self._points.append(point)
            self._show_line()

    def end_line(self):
        """Make a stroke of the points that were clicked."""
        points, least = tuple(self._points), 2 if self.mode.tool == "wire" else 3
        self.leave_line()
        if self.mode.tool in ("wire", "area") and len(points) >= least:
            is_wire = self.mode.tool == "wire"
            shape, width = ("line", self.mode.width) if is_wire else ("area", 0.0)
            self._add(Stroke(self.mode.layer, self.mode.adds, shape, points, width))

    def leave_line(self):
        """Forget the points that were clicked."""
        self._points = []
        self._show_line()

    def _show_line(self):
        x, y = zip(*self._points, strict=True) if self._points else ((), ())
        self._line.data = {"x": list(x), "y": [self._height - value for value in y]}

    def _end_brush(self):
        """Make strokes of what was brushed."""
        xs, ys = self.brushed.data["xs"], self.brushed.data["ys"]
        if not len(xs):
            return
        self.brushed.data = {"xs": [], "ys": []}
        for x, y in zip(xs, ys, strict=True):
            points = tuple((float(a), self._height - float(b)) for a, b in zip(x, y, strict=True))
            if points:
                self._add(Stroke(self.mode.layer, self.mode.adds, "line", points, self.mode.width))

    def _add(self, stroke: Stroke):
        self._guarded(lambda: self._session.log.add(stroke))
        self.draw()

    def undo(self):
        """Take the last stroke of any window back."""
        self._session.log.undo()
        self.draw()

    def redo(self):
        """Add the stroke again that was undone last."""
        self._session.log.redo()
        self.draw()

    def go(self, step: int):
        """Go to the next place, or by a step of -1 to the one before."""
        squares = self._session.squares
        if not squares:
            self._place.text = "no places to review"
            return
        self._square = (self._square + step) % len(squares) if self._square >= 0 else (
            0 if step > 0 else len(squares) - 1
        )  # fmt: skip
        self._show_square(squares[self._square])

    def seen(self):
        """Mark the square as seen, and go on to the next."""
        squares = self._session.squares
        if 0 <= self._square < len(squares):
            self._session.mark_seen(squares[self._square])
            self.go(1)

    def _show_square(self, square: ListedSquare):
        centre = square.left + square.width / 2, self._height - square.top - square.height / 2
        extent = 2 * max(square.width, square.height)
        x, y = extent * max(1, WIDTH / HEIGHT) / 2, extent * max(1, HEIGHT / WIDTH) / 2
        self.figure.x_range.start, self.figure.x_range.end = centre[0] - x, centre[0] + x
        self.figure.y_range.start, self.figure.y_range.end = centre[1] - y, centre[1] + y
        self._frame.data = {"x": [centre[0]], "y": [centre[1]],
                            "w": [square.width], "h": [square.height]}  # fmt: skip
        self._marks.data = {
            "x": [place["x"] + 0.5 for place in square.places],
            "y": [self._height - place["y"] - 0.5 for place in square.places],
        }
        kinds = sorted({f"{place['kind']} ({place['output']})" for place in square.places})
        seen = ", seen" if self._session.is_seen(square) else ""
        total = len(self._session.squares)
        self._place.text = (
            f"<b>place {self._square + 1} of {total}</b>{seen}<br>{_escaped(', '.join(kinds))}"
        )
        self.draw()

    def _draw_soon(self):
        if not self._pending:
            self._pending = True
            self._document.add_timeout_callback(self.draw, DELAY_MS)

    def draw(self):
        """Draw the view: the photograph, its masks and its uncertainty."""
        self._pending = False
        self._drawn = self._session.log.version, self._session.prediction
        x, y = self.figure.x_range, self.figure.y_range
        dx, dy = (MARGIN * abs(r.end - r.start) for r in (x, y))
        box = x.start - dx, self._height - y.end - dy, x.end + dx, self._height - y.start + dy
        most = int(max(WIDTH, HEIGHT) * (1 + 2 * MARGIN))
        session = self._session
        photograph = session.pixels.part(*box, most)
        opaque = np.dstack([photograph.pixels, np.full(photograph.pixels.shape[:2], 255, np.uint8)])
        self._show("photograph", np.ascontiguousarray(opaque).view(np.uint32)[..., 0], photograph)
        for layer in (METAL, VIA, UNKNOWN):
            part = session.mask_part(layer, *box, most)
            self._show(layer, packed(COLOURS[layer], 255 * part.pixels.astype(np.uint8)), part)
        unsure = session.uncertainty.part(*box, most)
        opacity = (unsure.pixels >> 8).astype(np.uint8)
        self._show("uncertainty", packed(YELLOW, opacity), unsure)

    def _show(self, name: str, pixels: np.ndarray, part):
        height, width = (size / part.scale for size in pixels.shape)
        if not pixels.size:
            self._images[name][0].data = {"image": [], "x": [], "y": [], "dw": [], "dh": []}
            return
        self._images[name][0].data = {
            "image": [np.ascontiguousarray(pixels[::-1])], "x": [part.left],
            "y": [self._height - part.top - height], "dw": [width], "dh": [height],
        }  # fmt: skip

    def learn(self):
        """Train on what was corrected, in the background."""
        self._session.start_training()
        self._poll()

    def stop(self):
        """Stop what runs in the background."""
        self._session.stop()
        self._poll()

    def go_back(self):
        """Use the model before."""
        self._session.go_back()
        self._poll()

    def _poll(self):
        """Show what other windows and the background did."""
        session = self._session
        if session.state != self._shown_state:
            self._shown_state = session.state
            text = _escaped(session.state)
            self._status.text = f"<b>{text}</b>" if session.has_failed else text
            losses = session.losses()
            self._losses.data = {"step": list(range(1, len(losses) + 1)), "loss": losses}
        if self._drawn != (session.log.version, session.prediction):
            self.draw()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
