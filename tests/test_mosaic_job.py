"""Mosaics through `predict`: what is written, resuming, sharing, and what is refused."""

import collections
import errno
import filecmp
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import time

import gdstk
import numpy as np
import pytest
import tifffile
from eal_icnet_jax.datasets.ic_synthetic import die
from flax import nnx

from eal_icnet_jax import (
    checkpoints,
    images,
    layout,
    models,
    mosaic_job,
    mosaics,
    postprocess,
    predict,
)
from eal_icnet_jax.errors import UserError
from eal_icnet_jax.predictor import Predictor
from eal_icnet_jax.windows import Blended
from tests import commands, disks

WINDOW, OVERLAP = 96, 24
SHAPE = 1100, 330


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    """A strip of a drawn die in three pieces, as a tiled TIFF with a resolution."""
    drawn = die.Die(*SHAPE, seed=5)
    image = np.concatenate([die.draw_field(drawn, k)["image"] for k in range(2)])
    path = tmp_path_factory.mktemp("mosaic") / "die.ome.tif"
    sizes = {f"PhysicalSize{axis}": 0.05 for axis in "XY"}
    tifffile.imwrite(
        path, image, tile=(128, 128), compression="deflate", photometric="rgb",
        metadata={"axes": "YXS", **sizes},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def want(workdir, mosaic):
    """Its blended probabilities `[H, W]`, computed in one piece."""
    predictor = Predictor(checkpoints.load_model(workdir))
    opened = mosaics.open_mosaic(mosaic)
    blended = Blended(opened, predictor.probabilities, 1, 1, (WINDOW, WINDOW), OVERLAP)
    (out,) = blended.strips(slice(0, SHAPE[1]), [slice(0, SHAPE[0])])
    return out[..., 0]


@pytest.fixture(scope="module")
def arguments(workdir, mosaic, want):
    """Those of `predict`, for an output and more; the network has learnt little, and the threshold
    lies where it makes shapes."""

    def joined(output, *more):
        given = [f"--checkpoint={workdir}", f"--input={mosaic}", f"--output={output}"]
        options = [f"--window={WINDOW}", f"--overlap={OVERLAP}"]
        return [*given, *options, f"--threshold={np.quantile(want, 0.6):.4f}", *more]

    return joined


@pytest.fixture(scope="module")
def run(arguments):
    return lambda *given: predict.run(predict.parser().parse_args(arguments(*given)))


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A run that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole") / "out"
    run(output, "--probabilities", f"--layout={output / 'die.gds'}")
    return output


def read(path):
    found = mosaics.open_mosaic(path)
    return found[0 : found.shape[0], 0 : found.shape[1]]


def same(a, b):
    """Whether two folders hold the same files, byte by byte."""
    names = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(b) for path in b.rglob("*") if path.is_file())
    assert names
    _, differing, unreadable = filecmp.cmpfiles(a, b, map(str, names), shallow=False)
    assert not differing and not unreadable


def test_masks_and_probabilities_are_the_blended_ones(want, whole):
    probabilities = read(whole / "die_probability.ome.tif")
    np.testing.assert_allclose(probabilities / 65535, want, atol=1e-4)
    record = json.loads((whole / "die.json").read_text())
    threshold = record["made_with"]["threshold"]
    mask = read(whole / "die.ome.tif")
    assert set(np.unique(mask)) == {0, 255} and 0.1 < (mask > 0).mean() < 0.9
    clear = np.abs(want - threshold) > 1e-4
    np.testing.assert_array_equal((mask > 0)[clear], (want >= threshold)[clear])
    assert record["foreground"] == [np.mean(mask > 0)]
    assert record["made_with"]["window"] == [WINDOW, WINDOW]
    assert {path.name for path in whole.iterdir()} == {
        "die.ome.tif", "die_probability.ome.tif", "die.json", "die.gds"
    }  # fmt: skip


def test_resolution_and_pyramid_are_kept(whole):
    assert mosaics.open_mosaic(whole / "die.ome.tif").pixel_size == (0.05, 0.05)
    with tifffile.TiffFile(whole / "die.ome.tif") as file:
        shapes = [level.shape for level in file.series[0].levels]
    assert shapes == [SHAPE, (550, 165), (275, 83)]


def test_the_layout_is_in_the_mosaics_units(whole):
    (cell,) = gdstk.read_gds(whole / "die.gds").cells
    area = sum(polygon.area() for polygon in cell.polygons)
    pixels = np.count_nonzero(read(whole / "die.ome.tif"))
    assert area == pytest.approx(pixels * 0.05**2, rel=0.02)


def test_a_written_mask_becomes_the_same_layout(whole, tmp_path):
    layout.main([f"--metal={whole / 'die.ome.tif'}", f"--output={tmp_path / 'die.gds'}"])
    assert (tmp_path / "die.gds").read_bytes() == (whole / "die.gds").read_bytes()


def test_zarr_has_the_same_masks_and_more_files_may_follow(arguments, run, mosaic, whole, tmp_path):
    """Also a folder of several, one of them done before; and Zarr comes out of Zarr."""
    run(tmp_path / "out", "--format=zarr")
    np.testing.assert_array_equal(read(tmp_path / "out/die.zarr"), read(whole / "die.ome.tif"))
    assert mosaics.open_mosaic(tmp_path / "out/die.zarr").pixel_size == (0.05, 0.05)
    folder = tmp_path / "in"
    folder.mkdir()
    image = images.to_uint8(read(mosaic), 3)
    group = mosaics.create(folder / "b.zarr", "b", SHAPE, np.uint8, None)
    group["0"][:] = image[..., 0]
    images.write(folder / "a.png", image)
    result = commands.run("predict", *arguments(tmp_path / "out", f"--input={folder}"))
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(read(tmp_path / "out/a.ome.tif"), read(whole / "die.ome.tif"))
    assert (tmp_path / "out/b.zarr").is_dir()
    again = commands.run("predict", *arguments(tmp_path / "out", f"--input={folder}"))
    assert again.stdout.count("was there already") == 2 and "2 of 2 images" in again.stdout


def test_specks_and_holes_are_those_of_the_whole_mask(run, whole, tmp_path):
    run(tmp_path, "--remove-specks=60", "--fill-holes=40")
    mask = read(whole / "die.ome.tif") > 0
    want = postprocess.cleaned(mask, 60, 40)
    assert np.any(want != mask)
    np.testing.assert_array_equal(read(tmp_path / "die.ome.tif") > 0, want)
    assert not list(tmp_path.glob(".*"))


def test_pieces_make_no_difference(run, whole, tmp_path, monkeypatch):
    """Wider mosaics are worked on in panels of columns."""
    monkeypatch.setattr(mosaic_job, "CHUNK", 200)
    monkeypatch.setattr(mosaic_job, "PANEL", 100)
    assert len(mosaic_job.pieces_of(SHAPE)) == 6 * 4
    run(tmp_path, "--probabilities")
    for name in ("die.ome.tif", "die_probability.ome.tif"):
        np.testing.assert_array_equal(read(tmp_path / name), read(whole / name))


def test_tiles_are_predicted_as_one_mosaic(run, mosaic, whole, tmp_path):
    image = read(mosaic)
    folder = tmp_path / "shots"
    folder.mkdir()
    for row in range(4):
        for column in range(2):
            tile = image[300 * row : 300 * (row + 1), 200 * column : 200 * (column + 1)]
            images.write(folder / f"r{row}c{column}.png", tile)
    run(tmp_path / "out", f"--input={folder}", "--tiles=r{row}c{column}.png")
    np.testing.assert_array_equal(read(tmp_path / "out/shots.ome.tif"), read(whole / "die.ome.tif"))


def test_killed_at_random_it_ends_with_the_same_files(arguments, run, tmp_path):
    """Ten times; what is done is not done again."""
    rng = random.Random(0)
    small = ["--window=32", "--overlap=16", "--probabilities", "--remove-specks=9"]
    run(tmp_path / "whole", *small)
    output = tmp_path / "out"
    command = commands.arguments("predict", *arguments(output, *small))
    kept: dict[str, int] = {}
    for _ in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(2, 5))
        process.kill()
        if process.wait() == 0:  # it was quicker
            same(tmp_path / "whole", output)
            shutil.rmtree(output)
        marks = (output / ".die.partial/done").glob("*")
        done = {path.name: path.stat().st_mtime_ns for path in marks}
        assert not done or kept.items() <= done.items()
        kept = done
    result = commands.run("predict", *arguments(output, *small))
    assert result.returncode == 0, result.stderr
    same(tmp_path / "whole", output)


@pytest.mark.soak
def test_losing_power_over_and_over_it_ends_with_the_same_files(arguments, run, tmp_path, figures):
    """When a piece is marked as done, and at random moments after: none is taken for done that the
    disk does not hold."""
    rng = random.Random(0)
    small = ["--window=32", "--overlap=16", "--probabilities", "--remove-specks=9"]
    run(tmp_path / "whole", *small)
    done, finished = [], 0
    with disks.ext4(tmp_path) as disk:
        output = disk.path / "out"
        command = commands.arguments("predict", *arguments(output, *small))
        while len(done) < 20:
            before = marks(output)
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            while process.poll() is None and marks(output) in (before, set()):
                time.sleep(0.001)
            time.sleep(rng.choice([0, 0, rng.uniform(0, 1)]))
            disk.commit()
            disk.stop()
            process.kill()
            process.wait()
            disk.start()
            done.append(len(marks(output)))
            if (output / "die.json").exists() and not (output / ".die.partial").exists():
                same(tmp_path / "whole", output)
                shutil.rmtree(output)
                finished += 1
        result = commands.run("predict", *arguments(output, *small))
        assert result.returncode == 0, result.stderr
        same(tmp_path / "whole", output)
    assert {1, 2, 3} <= set(done) and finished
    figures.update(losses=len(done), pieces_done_after_each=done, finished=finished)


def marks(output) -> set[str]:
    """Of the pieces that a prediction under way has done."""
    return {path.name for path in (output / ".die.partial/done").glob("*")}


def test_two_processes_share_one_mosaic(arguments, whole, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = [f"--coordinator=localhost:{port}", "--processes=2", "--format=zarr"]
    running = [
        subprocess.Popen(
            commands.arguments(
                "predict",
                *arguments(tmp_path / "out", *shared, f"--process={k}"),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for k in range(2)
    ]
    texts = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], texts
    np.testing.assert_array_equal(read(tmp_path / "out/die.zarr"), read(whole / "die.ome.tif"))
    # Each predicted some of the rows of windows, and neither all.
    assert all("0/" in text and "60/60" not in text for text in texts)


def test_a_lost_process_is_finished_by_the_command_again(arguments, run, whole, tmp_path):
    """As it leaves things: the work begun, with the first process's pieces alone."""
    work = begun(run, tmp_path / "out", pieces=2)
    result = commands.run("predict", *arguments(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert "going on: 2 of 3 pieces are done" in result.stdout
    assert not work.exists()
    np.testing.assert_array_equal(read(tmp_path / "out/die.ome.tif"), read(whole / "die.ome.tif"))


def begun(run, output, pieces):
    """The folder of a prediction that stopped after some pieces."""

    class Stopped(Exception):
        pass

    predict_ = mosaic_job.Job._predict

    def some(self, blended, todo):
        predict_(self, blended, todo[:pieces])
        raise Stopped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(mosaic_job.Job, "_predict", some)
        run(output)
    (work,) = output.glob(".*.partial")
    return work


def test_what_was_begun_otherwise_is_not_gone_on_with(run, tmp_path):
    begun(run, tmp_path, pieces=1)
    with pytest.raises(UserError, match=r"threshold 0\.\d+ instead of 0.4: go on as it was begun"):
        run(tmp_path, "--threshold=0.4")


def test_results_are_never_overwritten(run, whole, tmp_path):
    for name in ("die.ome.tif", "die.json", "die_probability.ome.tif"):
        shutil.copy(whole / name, tmp_path)
    with pytest.raises(UserError, match="probabilities True instead of False"):
        run(tmp_path)
    (tmp_path / "die.json").unlink()
    with pytest.raises(UserError, match=r"die.ome.tif exists: remove it, or name another folder"):
        run(tmp_path)


def test_another_command_at_the_same_is_refused(run, tmp_path):
    work = begun(run, tmp_path, pieces=1)
    with mosaic_job.filelock.FileLock(work / "lock"), pytest.raises(UserError, match="is in use"):
        run(tmp_path)


def test_too_little_room_is_told_before_anything_is_written(run, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(mosaic_job.shutil, "disk_usage", lambda path: usage(2**30, 2**30, 9))
    with pytest.raises(UserError, match=r"has 0 MB free, and die may take 1 MB: make room"):
        run(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_that_fills_meanwhile_or_rots_loses_nothing(run, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def full(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(mosaics, "write_tiff", full)
        with pytest.raises(UserError, match=r"No space left on device.*goes on where it stopped"):
            run(tmp_path)
    chunk = tmp_path / ".die.partial/die.zarr/0/1/0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"\.die\.partial is damaged .*: remove it and run"):
        run(tmp_path)
    chunk.write_bytes(content)
    run(tmp_path)
    np.testing.assert_array_equal(read(tmp_path / "die.ome.tif"), read(whole / "die.ome.tif"))


@pytest.mark.parametrize("format", ["tiff", "zarr"])
def test_stopped_while_files_are_finished_it_makes_the_same(run, whole, tmp_path, format):
    """Some are in their places, of others there is a part; or all are, and it is not cleaned up."""
    options = ["--probabilities", "--fill-holes=9", f"--format={format}"]
    run(tmp_path / "whole", *options)
    fill, count = mosaics.fill_levels, itertools.count()

    def stopping(group):
        fill(group)
        if next(count) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError):
        patch.setattr(mosaics, "fill_levels", stopping)
        run(tmp_path / "out", *options)
    assert len(list((tmp_path / "out").glob("die*"))) == 1
    run(tmp_path / "out", *options)
    same(tmp_path / "whole", tmp_path / "out")

    (tmp_path / "out/.die.partial/die.zarr").mkdir(parents=True)
    run(tmp_path / "out", *options)
    same(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--window=400"], "it is 1100x330, smaller than a window of 400x400: name a smaller"),
        (["--window=16"], "--window is 16: the model takes 32 pixels or more"),
        (["--overlap=60"], "--overlap is 60: name 0 to half a window"),
        (["--batch=0"], "--batch is 0: name 1 or more windows"),
        (["--overlay"], "--overlay is of images of up to 2048x2048 pixels"),
        (["--fill-holes=9999"], "name an area of 0 to 4096 pixels"),
        (["--process=1"], "--coordinator, --processes and --process go together"),
        (["--tiles={row}.png"], "name tiles as in tile_{row}_{column}.png"),
        (["--input=none.tif"], "does not exist: name an image or a folder"),
        (["--output=/proc/nothing"], "cannot be made"),
    ],
)
def test_bad_options_are_told(arguments, tmp_path, capsys, more, told):
    with pytest.raises(SystemExit) as caught:
        predict.main(arguments(tmp_path / "out", *more))
    assert caught.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert told in line


def test_a_mosaic_that_is_cut_off_is_told(arguments, mosaic, tmp_path):
    path = tmp_path / "cut.tif"
    path.write_bytes(mosaic.read_bytes()[:-1000])
    assert "cut.tif is cut off or damaged: copy it again" in commands.told(
        "predict", *arguments(tmp_path / "out", f"--input={path}")
    )


def test_a_checkpoint_for_other_channels_is_told(run, tmp_path):
    small = {"block_1_dilations": (2,), "block_2_dilations": (4,), "heads": 1}
    model = models.create_model("eal_icnet", in_channels=4, rngs=nnx.Rngs(0), **small)
    checkpoints.save_model(tmp_path / "model", model)
    with pytest.raises(UserError, match="takes images of 4 channels: name a checkpoint for grey"):
        run(tmp_path / "out", f"--checkpoint={tmp_path / 'model'}")
