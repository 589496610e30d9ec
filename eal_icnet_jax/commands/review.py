"""Correct a prediction on a page in your browser, and let the network learn from it.

    eal-icnet review photo.tif --project=DIR

Predicts the photograph, lists the places to look at, and serves a page on this machine: the
photograph at any size, the masks over it, the places one after another, a brush, wires, areas and
vias, undo and redo without end. Every stroke is stored at once. `learn` trains a round on what you
corrected, as `eal-icnet finetune` does, and predicts again; `go back` returns to the model before.
"""

import argparse
import pathlib
import webbrowser

from eal_icnet_jax.commands.train import check_platform
from eal_icnet_jax.system.errors import UserError

LARGEST_PORT = 2**16 - 1

LOOK_MS = 500
"""Time between looks at what runs in the background."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet review`."""
    add = parser.add_argument
    add("input", type=pathlib.Path, metavar="PHOTO", help="an image or a mosaic")
    add("--project", type=pathlib.Path, required=True, metavar="DIR",
        help="folder of the corrections and models")  # fmt: skip
    add("--checkpoint", metavar="DIR",
        help="model before any round: checkpoint or work directory, or optical or sem (by default "
        "the one of these that suits the photograph)")  # fmt: skip
    add("--calibration", type=pathlib.Path, metavar="FILE", help="as for review-list")
    add("--count", type=int, metavar="N", help="largest number of places, as for review-list")
    add("--size", type=int, metavar="PIXELS", help="side of a square, as for review-list")
    add("--tta", action="store_true", help="as for review-list")
    add("--scale", metavar="FACTOR", help="as for predict")
    add("--port", type=int, default=0, metavar="PORT", help="of the page (a free one)")
    add("--address", default="127.0.0.1", metavar="ADDRESS",
        help="that the page is served on (%(default)s: this machine only)")  # fmt: skip
    add("--no-browser", action="store_true", help="do not open a browser")
    parser.set_defaults(config_overrides=[])
    parser.epilog = "any knob of configs/finetune.py can be set for learning: --config.epochs=8"


def _list_options(arguments: argparse.Namespace) -> list[str]:
    options = [
        f"--{name}={value}"
        for name in ("calibration", "count", "size", "scale")
        if (value := getattr(arguments, name)) is not None
    ]
    return options + (["--tta"] if arguments.tta else [])


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet review` until Ctrl-C.

    Raises:
      UserError: the options are wrong, or something cannot be read, written or served.
    """
    check_platform()
    if not 0 <= arguments.port <= LARGEST_PORT:
        raise UserError(f"--port is {arguments.port}: name one from 1 to {LARGEST_PORT}")
    try:
        from tornado.ioloop import PeriodicCallback

        from eal_icnet_jax.review.page import ReviewPage
        from eal_icnet_jax.review.server import start_server
    except ImportError as error:
        raise UserError("the page needs Bokeh: pip install 'eal-icnet-jax[review]'") from error
    from eal_icnet_jax.review.session import ReviewSession

    session = ReviewSession(
        arguments.input,
        arguments.project,
        arguments.checkpoint,
        _list_options(arguments),
        arguments.config_overrides,
    )
    try:
        if not session.has_prediction():
            print("predicting", flush=True)
            session.start_prediction()
            session.wait()
        session.open_prediction()
        server, address = start_server(
            lambda document: ReviewPage(document, session), arguments.address, arguments.port
        )
        print(f"correct at {address}\nCtrl-C ends it; every stroke is stored", flush=True)
        if not arguments.no_browser:
            webbrowser.open(address)
        PeriodicCallback(session.look, LOOK_MS).start()
        server.io_loop.start()
    finally:
        session.close()
