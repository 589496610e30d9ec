"""Prediction of mosaics: results, pieces, formats, interruption and sharing."""

import errno
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
import zarr

from eal_icnet_jax.imaging import mosaic_files, pixel_values, png, pyramid
from eal_icnet_jax.inference import cleaning, mosaic_job
from eal_icnet_jax.inference.mosaic_work_folder import WorkFolder
from eal_icnet_jax.inference.prediction import PredictionRun
from eal_icnet_jax.inference.prediction_options import PredictionOptions
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.process_group import ProcessGroup
from tests import cli, disks
from tests.inference.conftest import SHAPE, WINDOW, assert_same_files, read, run

SMALL_WINDOWS = ("--window=32", "--overlap=16", "--probabilities", "--remove-specks=9")
"""Options with which the mosaic takes some seconds."""

SMALL_WINDOW_OPTIONS = {"window": 32, "overlap": 16, "probabilities": True, "remove_specks": 9}


def test_masks_and_probabilities_are_the_blended_ones(blended, predicted):
    probabilities = read(predicted / "die_probability.ome.tif")
    np.testing.assert_allclose(probabilities / 65535, blended, atol=1e-4)
    record = json.loads((predicted / "die.json").read_text())
    threshold = record["made_with"]["threshold"]
    mask = read(predicted / "die.ome.tif")
    assert set(np.unique(mask)) == {0, 255} and 0.1 < (mask > 0).mean() < 0.9
    clear = np.abs(blended - threshold) > 1e-4
    np.testing.assert_array_equal((mask > 0)[clear], (blended >= threshold)[clear])
    assert record["foreground"] == [np.mean(mask > 0)]
    assert record["made_with"]["window"] == [WINDOW, WINDOW]
    assert {path.name for path in predicted.iterdir()} == {
        "die.ome.tif", "die_probability.ome.tif", "die.json", "die.gds"
    }  # fmt: skip


def test_the_results_have_the_resolution_and_a_pyramid(predicted):
    assert mosaic_files.open_mosaic(predicted / "die.ome.tif").pixel_size == (0.05, 0.05)
    with tifffile.TiffFile(predicted / "die.ome.tif") as file:
        shapes = [level.shape for level in file.series[0].levels]
    assert shapes == [SHAPE, (550, 165), (275, 83)]


def test_the_layout_is_in_micrometres(predicted):
    (cell,) = gdstk.read_gds(predicted / "die.gds").cells
    area = sum(polygon.area() for polygon in cell.polygons)
    pixels = np.count_nonzero(read(predicted / "die.ome.tif"))
    assert area == pytest.approx(pixels * 0.05**2, rel=0.02)


def test_the_layout_command_makes_the_same_layout_of_the_mask(predicted, tmp_path):
    path = tmp_path / "die.gds"
    result = cli.run("layout", predicted / "die.ome.tif", f"--output={path}")
    assert result.returncode == 0, result.stderr
    assert path.read_bytes() == (predicted / "die.gds").read_bytes()


def test_zarr_holds_the_same_mask_as_tiff(predict_mosaic, predicted, tmp_path):
    predict_mosaic(tmp_path, format="zarr")
    np.testing.assert_array_equal(read(tmp_path / "die.zarr"), read(predicted / "die.ome.tif"))
    assert mosaic_files.open_mosaic(tmp_path / "die.zarr").pixel_size == (0.05, 0.05)


def test_each_mosaic_of_a_folder_is_written_in_its_own_format(
    command_line, mosaic_path, predicted, tmp_path
):
    """If the results exist already, the command says so and keeps them."""
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    image = pixel_values.to_uint8(read(mosaic_path), 3)
    group = pyramid.create_pyramid(folder / "b.zarr", "b", SHAPE, np.uint8, None)
    group["0"][:] = image[..., 0]
    png.write(folder / "a.png", image)
    result = cli.run("predict", *command_line(output, source=folder))
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(read(output / "a.ome.tif"), read(predicted / "die.ome.tif"))
    assert (output / "b.zarr").is_dir()
    again = cli.run("predict", *command_line(output, source=folder))
    assert again.stdout.count("existed already") == 2 and "2 of 2 images" in again.stdout


def test_specks_and_holes_are_those_of_the_whole_mask(predict_mosaic, predicted, tmp_path):
    predict_mosaic(tmp_path, remove_specks=60, fill_holes=40)
    mask = read(predicted / "die.ome.tif") > 0
    expected = cleaning.clean_mask(mask, 60, 40)
    assert np.any(expected != mask)
    np.testing.assert_array_equal(read(tmp_path / "die.ome.tif") > 0, expected)
    assert not list(tmp_path.glob(".*"))


def test_results_do_not_depend_on_pieces_and_panels(
    predict_mosaic, predicted, tmp_path, monkeypatch
):
    monkeypatch.setattr(mosaic_job, "CHUNK", 200)
    monkeypatch.setattr(mosaic_job, "PANEL_WIDTH", 100)
    assert len(mosaic_job.split_into_pieces(SHAPE)) == 6 * 4
    predict_mosaic(tmp_path, probabilities=True)
    for name in ("die.ome.tif", "die_probability.ome.tif"):
        np.testing.assert_array_equal(read(tmp_path / name), read(predicted / name))


def test_tiles_are_predicted_as_one_mosaic(predict_mosaic, mosaic_path, predicted, tmp_path):
    image = read(mosaic_path)
    folder = tmp_path / "shots"
    folder.mkdir()
    for row in range(4):
        for column in range(2):
            tile = image[300 * row : 300 * (row + 1), 200 * column : 200 * (column + 1)]
            png.write(folder / f"r{row}c{column}.png", tile)
    predict_mosaic(tmp_path / "out", input=folder, tiles="r{row}c{column}.png")
    mask = read(tmp_path / "out/shots.ome.tif")
    np.testing.assert_array_equal(mask, read(predicted / "die.ome.tif"))


def test_a_run_killed_at_random_times_ends_with_the_same_files(
    command_line, predict_mosaic, tmp_path
):
    """Pieces that are done are not predicted again."""
    rng = random.Random(0)
    predict_mosaic(tmp_path / "expected", **SMALL_WINDOW_OPTIONS)
    output = tmp_path / "out"
    command = cli.arguments("predict", *command_line(output, *SMALL_WINDOWS))
    known: dict[str, int] = {}
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(2, 5))
        process.kill()
        if process.wait() == 0:  # it was finished before
            assert_same_files(tmp_path / "expected", output)
            shutil.rmtree(output)
        done = {path.name: path.stat().st_mtime_ns for path in _mark_paths(output)}
        assert not done or known.items() <= done.items()
        known = done
    result = cli.run("predict", *command_line(output, *SMALL_WINDOWS))
    assert result.returncode == 0, result.stderr
    assert_same_files(tmp_path / "expected", output)


@pytest.mark.soak
def test_a_run_that_loses_power_repeatedly_ends_with_the_same_files(
    command_line, predict_mosaic, tmp_path, figures
):
    """Power is lost when a piece is marked as done, and at random times after that. No piece counts
    as done that is not on the disk."""
    rng = random.Random(0)
    predict_mosaic(tmp_path / "expected", **SMALL_WINDOW_OPTIONS)
    done, finished = [], 0
    with disks.ext4(tmp_path) as disk:
        output = disk.path / "out"
        command = cli.arguments("predict", *command_line(output, *SMALL_WINDOWS))
        while len(done) < 20:
            before = _marks(output)
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            while process.poll() is None and _marks(output) in (before, set()):
                time.sleep(0.001)
            time.sleep(rng.choice([0, 0, rng.uniform(0, 1)]))
            disk.commit()
            disk.stop()
            process.kill()
            process.wait()
            disk.start()
            done.append(len(_marks(output)))
            if (output / "die.json").exists() and not (output / ".die.partial").exists():
                assert_same_files(tmp_path / "expected", output)
                shutil.rmtree(output)
                finished += 1
        result = cli.run("predict", *command_line(output, *SMALL_WINDOWS))
        assert result.returncode == 0, result.stderr
        assert_same_files(tmp_path / "expected", output)
    assert {1, 2, 3} <= set(done) and finished
    figures.update(losses=len(done), pieces_done_after_each=done, finished=finished)


def _mark_paths(output):
    return list((output / ".die.partial/done").glob("*"))


def _marks(output) -> set[str]:
    """Return the marks of the pieces that a prediction in progress has done."""
    return {path.name for path in _mark_paths(output)}


def _run_together(commands: list[list]) -> list[subprocess.CompletedProcess]:
    """Run `eal-icnet predict` in several processes that join each other."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    group = f"--coordinator=localhost:{port}", f"--processes={len(commands)}"
    running = [
        subprocess.Popen(
            cli.arguments("predict", *command, *group, f"--process={index}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, command in enumerate(commands)
    ]
    outputs = [process.communicate(timeout=300) for process in running]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(running, outputs, strict=True)
    ]


def test_two_processes_share_one_mosaic(command_line, predicted, tmp_path):
    results = _run_together([command_line(tmp_path / "out", "--format=zarr")] * 2)
    assert [result.returncode for result in results] == [0, 0], results
    mask = read(tmp_path / "out/die.zarr")
    np.testing.assert_array_equal(mask, read(predicted / "die.ome.tif"))
    # Each predicted some of the rows of windows, and neither all.
    assert all("0/" in r.stderr and "60/60" not in r.stderr for r in results)


def test_a_mosaic_that_one_process_cannot_read_is_skipped_by_both(
    command_line, predicted, tmp_path
):
    """The part is damaged that only the second process reads. The other images are predicted."""
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    group = pyramid.create_pyramid(folder / "a.zarr", "a", SHAPE, np.uint8, None)
    group["0"][:] = 100
    (folder / "a.zarr/0/2/0").write_bytes(b"damaged")
    for name in "bc":
        png.write(folder / f"{name}.png", np.full((WINDOW, WINDOW), 100, np.uint8))
    results = _run_together([command_line(output, source=folder)] * 2)
    assert [result.returncode for result in results] == [1, 1], results
    assert all("a.zarr is damaged at rows " in result.stderr for result in results)
    assert "process 1 failed" in results[0].stderr
    assert all("2 of 3 images" in result.stdout for result in results)
    assert {"b.ome.tif", "c.ome.tif"} <= {path.name for path in output.iterdir()}


def test_a_process_that_cannot_report_its_failure_to_the_others_ends(
    model, mosaic_path, tmp_path, monkeypatch
):
    """Otherwise the others would wait for it."""

    class SecondProcess(ProcessGroup):
        def broadcast_from_first(self, array):
            return array

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(WorkFolder, "arrays", fail)
    monkeypatch.setattr(WorkFolder, "record_failure", fail)
    options = PredictionOptions(input=mosaic_path, output=tmp_path / "out", window=WINDOW)
    results = PredictionRun(model, options, SecondProcess(1, 2)).results()
    with pytest.raises(UserError, match=r"die\.ome\.tif cannot be predicted: No space left"):
        list(results)


def test_the_pieces_of_a_lost_process_are_predicted_by_the_next_run(
    begin_mosaic, command_line, predicted, tmp_path
):
    work = begin_mosaic(tmp_path / "out", pieces=2)
    result = cli.run("predict", *command_line(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert "going on: 2 of 3 pieces are done" in result.stdout
    assert not work.exists()
    mask = read(tmp_path / "out/die.ome.tif")
    np.testing.assert_array_equal(mask, read(predicted / "die.ome.tif"))


def test_results_are_never_overwritten(predict_mosaic, predicted, tmp_path):
    for name in ("die.ome.tif", "die.json", "die_probability.ome.tif"):
        shutil.copy(predicted / name, tmp_path)
    with pytest.raises(UserError, match="probabilities True instead of False"):
        predict_mosaic(tmp_path)
    (tmp_path / "die.json").unlink()
    with pytest.raises(UserError, match=r"die.ome.tif exists: remove it, or name another folder"):
        predict_mosaic(tmp_path)


def test_a_damaged_record_is_reported(predict_mosaic, tmp_path):
    for text in ("{", "[]", '{"made_with": 1}'):
        (tmp_path / "die.json").write_text(text)
        with pytest.raises(UserError, match=r"die\.json is damaged: remove it and the files"):
            predict_mosaic(tmp_path)


def test_a_window_larger_than_the_mosaic_is_refused(predict_mosaic, tmp_path):
    with pytest.raises(UserError, match=r"is 1100x330, smaller than a window of 400x400: name a"):
        predict_mosaic(tmp_path, window=400)


def test_a_window_smaller_than_the_model_takes_is_refused(predict_mosaic, tmp_path):
    with pytest.raises(UserError, match="--window is 16: the model takes 32 pixels or more"):
        predict_mosaic(tmp_path, window=16, overlap=0)


def test_a_mosaic_gets_no_overlay(predict_mosaic, tmp_path):
    with pytest.raises(UserError, match="--overlay is for images of up to 2048x2048 pixels"):
        predict_mosaic(tmp_path, overlay=True)


def test_a_mosaic_that_is_cut_off_is_reported(model, mosaic_path, tmp_path):
    path = tmp_path / "cut.tif"
    path.write_bytes(mosaic_path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"cut.tif is cut off or damaged: copy it again"):
        run(model, input=path, output=tmp_path / "out")


def test_a_chunk_that_is_damaged_is_reported(model, tmp_path):
    path = tmp_path / "a.zarr"
    array = zarr.create_array(str(path), shape=SHAPE, chunks=(512, 512), dtype="u1", zarr_format=2)
    array[:] = 1
    (path / "1.0").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"a\.zarr is damaged at rows"):
        run(model, input=path, output=tmp_path / "out", window=WINDOW)
