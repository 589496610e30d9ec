"""`eal-icnet predict`: its lines, the images it skips, and the arguments it refuses."""

import re
import socket
import subprocess

import cv2
import gdstk
import numpy as np
import pytest

from tests import cli, small_model
from tests.imaging.sample_images import pixels


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model of two masks."""
    return small_model.save(tmp_path_factory.mktemp("model") / "model", classes=2)


@pytest.fixture
def folder(tmp_path):
    """Eleven images of noise and a file that is not an image."""
    path = tmp_path / "in"
    path.mkdir()
    rng = np.random.default_rng(0)
    for index in range(11):
        image = rng.integers(0, 256, (48, 40), dtype=np.uint8)
        cv2.imwrite(str(path / f"image{index:02d}.png"), image)
    (path / "image00_broken.png").write_bytes(b"nothing")
    return path


def masks_in(output):
    return {path.name.removesuffix("_1.png") for path in output.glob("*_1.png")}


def test_a_work_directory_predicts_an_image(workdir, folder, tmp_path):
    source, output = folder / "image00.png", tmp_path / "out"
    result = cli.run("predict", source, "-o", output, f"--checkpoint={workdir}")
    assert result.returncode == 0, result.stderr
    first, last = result.stdout.splitlines()
    assert re.fullmatch(r"\[1/1\] image00.png  40x48  \d+\.\d% foreground  \d+\.\d\d s", first)
    assert last == f"1 of 1 images in {output}"
    assert pixels(output / "image00.png").shape == (48, 40)


def test_skipped_files_are_named_and_counted(checkpoint, folder, tmp_path):
    cv2.imwrite(str(folder / "small.png"), np.zeros((20, 20), np.uint8))
    output = tmp_path / "out"
    result = cli.run("predict", folder, "-o", output, f"--checkpoint={checkpoint}")
    assert result.returncode == 1
    assert "11 of 13 images" in result.stdout
    assert len(masks_in(output)) == 11
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "2 of the images could not be predicted and were skipped" in error
    assert "image00_broken.png cannot be read as an image" in error
    assert "small.png is 20x20 (height x width): the model needs at least 32x32" in error


def test_a_broken_file_does_not_end_the_other_processes(checkpoint, folder, tmp_path):
    """Every process predicts its share. Those that could not read the file then report it."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    output = tmp_path / "out"
    group = f"--coordinator=localhost:{port}", "--processes=2"
    command = [folder, f"--output={output}", f"--checkpoint={checkpoint}", *group]
    running = [
        subprocess.Popen(
            cli.arguments("predict", *command, f"--process={index}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in running]
    assert masks_in(output) == {f"image{index:02d}" for index in range(11)}, outputs
    assert all("failed or was lost" not in errors for _, errors in outputs)
    for process, (lines, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 1
        assert "1 of the images could not be predicted and were skipped: " in errors
        assert "image00_broken.png cannot be read as an image" in errors
        assert "11 of 12 images" in lines


def test_the_layout_of_two_masks_is_summarised(checkpoint, folder, tmp_path):
    path = tmp_path / "x.gds"
    source, output = folder / "image00.png", tmp_path / "out"
    more = f"--layout={path}", "--kinds=via,metal", "--pixel-size=0.5"
    result = cli.call("predict", source, "-o", output, f"--checkpoint={checkpoint}", *more)
    assert re.search(rf"[\d,]+ via, [\d,]+ metal shapes in {path}", result.stdout), result.stderr
    assert gdstk.read_gds(path).cells


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--threshold=nan"], "--threshold is nan: name a probability from 0 to 1"),
        (["--threshold=1.5"], "--threshold is 1.5: name a probability from 0 to 1"),
        (["--threshold=-1"], "--threshold is -1.0: name a probability from 0 to 1"),
        (["--window=16", "--overlap=0"], "--window is 16: the model takes 32 pixels or more"),
        (
            ["--window=96", "--overlap=60"],
            "--overlap is 60: a window of 96 pixels overlaps by 0 to 48",
        ),
        (["--batch=0"], "--batch is 0: name 1 or more windows"),
        (["--fill-holes=9999"], "name an area of 0 to 4096 pixels"),
        (["--process=1"], "--coordinator, --processes and --process go together"),
        (["--tiles={row}.png"], "name tiles as in tile_{row}_{column}.png"),
        (["--output=/proc/nothing"], "cannot be made"),
        (["--output=in"], "in is the folder of the images: name another one with --output"),
        (["--output=in/image00.png/x"], "cannot be made"),
        (["--checkpoint=in"], "holds no checkpoint"),
        (["--layout=x.gds", "--kinds=metal"], "--kinds is metal, and the model predicts 2 masks"),
        (["--layout=x.gds", "--kinds=metal,poly"], "out of metal, via"),
        (["--layout=x.dxf"], "names no layout: let it end in .gds, .oas, .svg"),
        (["--layout=none/x.gds"], "none is not a folder"),
        (["--layout=x.gds", "--pixel-size=-1"], "--pixel-size is -1.0: it must be above 0"),
    ],
)
def test_bad_arguments_are_refused(checkpoint, folder, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    given = "in/image00.png", f"--checkpoint={checkpoint}", "--output=out"
    assert message in cli.error_of("predict", *given, *more)
    assert not list(tmp_path.glob("*.gds")) and not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("none.tif", [], "does not exist: name an image or a folder"),
        ("in", ["--layout=x.gds"], "--layout is for one image, and in has 12: name one image"),
    ],
)
def test_bad_inputs_are_refused(checkpoint, folder, tmp_path, monkeypatch, source, more, message):
    monkeypatch.chdir(tmp_path)
    given = source, f"--checkpoint={checkpoint}", "-o", "out"
    assert message in cli.error_of("predict", *given, *more)


def test_the_packaged_weights_suit_the_image(tmp_path):
    """Without a checkpoint, a coloured image and a grey one are predicted by different weights."""
    rng = np.random.default_rng(0)
    wires = (np.arange(96) // 16 % 2)[:, None, None]
    coloured = np.where(wires, (230, 225, 210), (60, 130, 120)) + rng.normal(0, 4, (96, 128, 3))
    images = {"colour": coloured, "grey": coloured[..., :1]}
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.clip(image, 0, 255).astype(np.uint8))
    for name, kind, other in (("colour", "optical", "sem"), ("grey", "scanning", "optical")):
        result = cli.call("predict", tmp_path / f"{name}.png", "-o", tmp_path / "out")
        assert result.returncode == 0, result.stderr
        assert re.search(f"the packaged weights for photographs of an? {kind}", result.stderr)
        assert f"--checkpoint={other}" in result.stderr
        mask = cv2.imread(str(tmp_path / "out" / f"{name}_metal.png"), cv2.IMREAD_UNCHANGED)
        assert np.mean((mask > 0) == (wires[..., 0] > 0)) > 0.9
        assert (tmp_path / "out" / f"{name}_via.png").exists()
