"""The page in a headless browser: places, strokes, undo, reload, kill, learning, two windows."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

import numpy as np
import pytest

from eal_icnet_jax.imaging import mosaic_files
from eal_icnet_jax.review.strokes import StrokeLog
from tests import benchmark_modules, cli, small_model
from tests.commands.test_finetune import QUICK
from tests.review import drawn_project

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: apt-get install chromium runs the tests of the page"
)

SCREEN = {"width": 1320, "height": 860}


@contextlib.contextmanager
def served(photograph, folder, *options):
    """Run `eal-icnet review`, and yield the process and the page's address."""
    command = cli.arguments("review", photograph, f"--project={folder}", "--no-browser", *options)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = ""
        while "http" not in line:
            line = process.stdout.readline()
            assert line, "the command ended"
        yield process, re.search(r"http\S+", line).group()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Window:
    """A window of the page."""

    def __init__(self, browser, address: str):
        self.page = browser.new_page(viewport=SCREEN)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_function("window.Bokeh && Bokeh.documents.length > 0")
        self.page.get_by_text("next (n)").wait_for()
        self.page.wait_for_timeout(500)

    def press(self, *keys: str):
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(250)

    def expect(self, text: str, seconds: float = 10):
        self.page.get_by_text(text, exact=False).first.wait_for(timeout=1000 * seconds)


def strokes_of(folder, photograph):
    return StrokeLog(folder / "strokes.jsonl", mosaic_files.open_mosaic(photograph).stamp()).strokes


def middle_of_the_view():
    """The place on the screen at which a chosen square's centre is shown."""
    from eal_icnet_jax.review.page import HEIGHT, WIDTH

    return WIDTH / 2, HEIGHT / 2


def test_a_person_corrects_a_short_and_the_network_learns_it(browser, tmp_path):
    """Third place, erase, a via, undo, redo, reload, a kill, twenty steps, prediction."""
    folder = tmp_path / "project"
    photograph = drawn_project.write(folder)
    checkpoint = small_model.save(tmp_path / "start", in_channels=3, classes=2)
    options = f"--checkpoint={checkpoint}", "--scale=1"
    x, y = middle_of_the_view()
    with served(photograph, folder, *options) as (process, address):
        window = Window(browser, address)
        window.press("n", "n", "n")
        window.expect("place 3 of 3")
        window.expect("short (metal)")
        window.press("e", *["+"] * 30, "w")
        window.page.mouse.click(x - 150, y)
        window.page.wait_for_timeout(300)
        window.page.mouse.click(x + 150, y)
        window.press("Enter")
        window.press("e", "v")
        window.page.mouse.click(x, y + 300)
        window.page.wait_for_timeout(500)
        found = strokes_of(folder, photograph)
        assert [(s.layer, s.adds, s.shape) for s in found] == [
            ("metal", False, "line"), ("via", True, "disk"),
        ]  # fmt: skip
        (left, row), (right, _) = found[0].points
        assert left < drawn_project.SHORT[0] - 8 and right > drawn_project.SHORT[0] + 8
        assert 80 < row < 140
        window.press("z", "z")
        assert not strokes_of(folder, photograph)
        window.press("y", "y")
        assert strokes_of(folder, photograph) == found
        window.page.reload()
        window.page.get_by_text("next (n)").wait_for()
        second = Window(browser, address)
        second.press("b")
        second.page.mouse.move(x, y)
        second.page.mouse.down()
        second.page.mouse.move(x + 60, y, steps=5)
        second.page.mouse.up()
        second.page.wait_for_timeout(600)
        assert len(strokes_of(folder, photograph)) == 3  # those of the other window are kept
        assert not window.errors and not second.errors
        process.send_signal(signal.SIGKILL)
    with served(photograph, folder, *options, *QUICK[:1], "--config.dataset.views=20",
                *QUICK[2:4], "--config.batch_size=1") as (process, address):  # fmt: skip
        window = Window(browser, address)
        assert len(strokes_of(folder, photograph)) == 3
        window.press("z")
        window.page.get_by_text("learn", exact=True).click()
        window.page.wait_for_timeout(500)
        refusal = window.page.get_by_text("runs already: wait for it").first
        sync_api = pytest.importorskip("playwright.sync_api")
        for _ in range(10):  # the training's progress may take the place of the message
            window.page.get_by_text("learn", exact=True).click()
            with contextlib.suppress(sync_api.TimeoutError):
                refusal.wait_for(timeout=2000)
                break
        else:
            pytest.fail("a second training was not refused")
        window.page.get_by_text("stop", exact=True).click()
        window.expect("train: stopped; starting it again goes on")
        window.page.get_by_text("learn", exact=True).click()
        window.expect("predicted", 120)
        assert (folder / "models/001/test/metrics.json").exists()
        assert (folder / "predictions/001/places.csv").exists()
        assert not window.errors
        window.page.get_by_text("go back", exact=True).click()
        window.expect("in use: the first model")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, -signal.SIGINT, 130)
    mask = drawn_project.probabilities() >= 0.5
    from eal_icnet_jax.review.strokes import painted

    corrected = painted(mask, found, "metal")
    assert mask[drawn_project.SHORT[::-1]] and not corrected[drawn_project.SHORT[::-1]]
    assert np.count_nonzero(corrected != mask) > 50


@pytest.mark.soak
def test_a_short_on_a_die_of_16384_pixels_is_erased_and_the_place_is_right(browser, tmp_path):
    """The packaged network learns twenty steps from the corrected place, and predicts the die."""
    review_page = benchmark_modules.load("review_page")
    die, folder = tmp_path / "die", tmp_path / "project"
    assert cli.run("draw", "die", die, "--size=16384", timeout=3600).returncode == 0
    prediction = folder / "predictions" / "000"
    review_page.write_prediction(prediction, die)
    place = json.loads((prediction / "places.json").read_text())["places"][2]
    photograph = die / "image.ome.tif"
    x, y = middle_of_the_view()
    options = (
        "--checkpoint=optical", "--scale=1", *QUICK[:1], "--config.dataset.views=20",
        QUICK[2], "--config.batch_size=1",
    )  # fmt: skip
    with served(photograph, folder, *options) as (process, address):
        window = Window(browser, address)
        window.press("n", "n", "n")
        window.expect("place 3 of 20", 60)
        window.press("e", "w")
        window.page.mouse.click(x, y - 60)
        window.page.wait_for_timeout(300)
        window.page.mouse.click(x, y + 60)
        window.press("Enter")
        window.press("e", "v")
        window.page.mouse.click(x, y + 300)
        window.page.wait_for_timeout(500)
        found = strokes_of(folder, photograph)
        assert [(s.layer, s.adds, s.shape) for s in found] == [
            ("metal", False, "line"), ("via", True, "disk"),
        ]  # fmt: skip
        assert all(abs(column - place["x"]) < 4 for column, _ in found[0].points)
        window.press("z", "z")
        assert not strokes_of(folder, photograph)
        window.press("y", "y")
        window.page.reload()
        window.page.get_by_text("next (n)").wait_for()
        process.send_signal(signal.SIGKILL)
    with served(photograph, folder, *options) as (process, address):
        assert strokes_of(folder, photograph) == found
        window = Window(browser, address)
        window.page.get_by_text("learn", exact=True).click()
        window.expect("predicted", 3600)
    assert (folder / "models/001/test/metrics.json").exists()

    def at_the_place(mask):
        around = slice(place["y"] - 2, place["y"] + 2), slice(place["x"] - 2, place["x"] + 2)
        return mosaic_files.open_mosaic(mask)[around] > 0

    assert at_the_place(prediction / "image_metal.zarr").all()
    assert not at_the_place(folder / "predictions/001/image_metal.zarr").any()


def test_only_the_token_opens_the_page(tmp_path):
    folder = tmp_path / "project"
    photograph = drawn_project.write(folder)
    with served(photograph, folder) as (_, address):
        assert urllib.request.urlopen(address).status == 200
        for other in (address.partition("?")[0], address[:-3] + "abc"):
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(other)
            assert error.value.code == 403
        port = address.partition("?")[0].rstrip("/").rpartition(":")[2]
        busy = tmp_path / "busy"
        busy.mkdir()
        drawn_project.write(busy / "project")
        result = cli.run("review", busy / "photo.png", f"--project={busy / 'project'}",
                         "--no-browser", f"--port={port}")  # fmt: skip
        assert result.returncode == 1
        assert f"cannot be served on 127.0.0.1, port {port}" in result.stderr
        result = cli.run("review", photograph, f"--project={folder}", "--no-browser")
        assert "is in use: another review of this project runs" in result.stderr
