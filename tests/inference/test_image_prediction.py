"""Prediction in memory gives the masks that the command writes."""

import copy
import dataclasses
import pathlib

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.imaging import png
from eal_icnet_jax.imaging.mosaics import mosaic_from_array
from eal_icnet_jax.inference import cleaning, windows
from eal_icnet_jax.inference.image_prediction import ImagePrediction, ImagePredictor
from eal_icnet_jax.inference.prediction_models import ModelChoice
from eal_icnet_jax.inference.prediction_options import ImageOptions
from eal_icnet_jax.models.registry import Preprocessing
from eal_icnet_jax.system.errors import UserError
from tests.inference.conftest import read, run


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A drawn electron photograph, whose network is packaged."""
    example = examples.draw_example(examples.kind_by_name("sem_photographs"), "test", 0)
    path = tmp_path_factory.mktemp("photograph") / "photograph.png"
    png.write(path, example["image"][..., 0])
    return path


def test_the_packaged_network_predicts_a_file_and_an_array_as_the_command_does(
    photograph, tmp_path
):
    predict = ImagePredictor()
    predicted = predict(photograph)
    (result,) = run(None, input=photograph, output=tmp_path)
    assert predicted.notes == result.notes and "is grey" in predicted.notes[0]
    assert list(predicted.masks) == ["metal", "via"]
    for name, mask in predicted.masks.items():
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, read(tmp_path / f"photograph_{name}.png") > 0)
    again = predict(read(photograph))
    for name, probability in predicted.probabilities.items():
        np.testing.assert_array_equal(again.probabilities[name], probability)


def test_a_large_image_is_predicted_in_the_windows_of_the_command(
    model, mosaic_path, threshold, tmp_path, monkeypatch
):
    monkeypatch.setattr(windows, "MAX_WHOLE_PIXELS", 300 * 300)
    predicted = ImagePredictor(model, threshold=threshold)(mosaic_path)
    run(model, input=mosaic_path, output=tmp_path, threshold=threshold)
    assert list(predicted.masks) == ["1"]  # its output has no name
    np.testing.assert_array_equal(predicted.masks["1"], read(tmp_path / "die.ome.tif") > 0)


def test_a_network_trained_on_crops_looks_at_windows_of_their_size(model, mosaic_path):
    """They are as large once magnified. The same windows, named by the user, give the same."""
    knows = copy.copy(model)
    knows.spec = dataclasses.replace(model.spec, preprocessing=Preprocessing(None, 12.0, 128))
    image = read(mosaic_path)[:300, :200]
    predicted = ImagePredictor(knows, scale=2)(image).probabilities["1"]
    mosaic = mosaic_from_array(pathlib.Path("array"), image)
    options = ImageOptions(scale=2, window=64)
    named = ImagePrediction(mosaic, ModelChoice(model), options)
    np.testing.assert_allclose(predicted, named.probabilities()[..., 0], atol=1e-6)
    magnified = named.at()
    assert (magnified.window, magnified.overlap) == ((64, 64), 8)
    whole = ImagePredictor(model, scale=2)(image).probabilities["1"]
    assert np.abs(whole - predicted).max() > 0.01
    too_much = ImagePrediction(mosaic, ModelChoice(knows), ImageOptions(scale=2, overlap=40))
    with pytest.raises(
        UserError, match="--overlap is 40: a window of 64 pixels overlaps by 0 to 32"
    ):
        too_much.probabilities()
    too_much = ImagePrediction(mosaic, ModelChoice(model), ImageOptions(overlap=300))
    with pytest.raises(UserError, match="--overlap is 300: a window of 512 pixels overlaps by"):
        too_much.probabilities()


def test_specks_below_half_a_wire_are_removed_where_the_width_is_known(
    model, mosaic_path, threshold, tmp_path
):
    """In memory, as a mosaic and from Python. The area follows the magnification."""
    knows = copy.copy(model)
    knows.spec = dataclasses.replace(model.spec, preprocessing=Preprocessing(None, 20.0, 64))
    png.write(tmp_path / "part.png", read(mosaic_path)[:300, :200])
    options = {"input": tmp_path / "part.png", "threshold": threshold, "scale": 1.25}

    def mask(network, name, **more):
        run(network, output=tmp_path / name, **options, **more)
        (path,) = [p for p in (tmp_path / name).iterdir() if p.name.startswith("part.") and
                   p.suffix in (".png", ".tif")]  # fmt: skip
        return read(path) > 0

    raw = mask(knows, "raw", remove_specks=0)
    expected = cleaning.clean_mask(raw, 64, 0)  # wires of 16 pixels
    assert np.count_nonzero(expected != raw) > 0
    np.testing.assert_array_equal(mask(knows, "clean"), expected)
    tiled = mask(knows, "tiled", remove_specks=0, format="tiff")
    np.testing.assert_array_equal(
        mask(knows, "tiled_clean", format="tiff"), cleaning.clean_mask(tiled, 64, 0)
    )
    predicted = ImagePredictor(knows, threshold=threshold, scale=1.25)(tmp_path / "part.png")
    np.testing.assert_array_equal(predicted.masks["1"], expected)
    plain = mask(model, "plain")
    np.testing.assert_array_equal(plain, mask(model, "plain0", remove_specks=0))


def test_multiscale_averages_over_three_magnifications(model, mosaic_path, threshold, tmp_path):
    """In memory and as a mosaic, whose settings say so."""
    options = {"window": 64, "scale": 1.5}
    steps = (2**-0.5, 1, 2**0.5)
    part = mosaic_from_array(pathlib.Path("array"), read(mosaic_path)[:128, :160])

    def metal(**options):
        prediction = ImagePrediction(part, ModelChoice(model), ImageOptions(**options))
        return prediction.probabilities()[..., 0]

    single = [metal(**{**options, "scale": 1.5 * step}) for step in steps]
    averaged = metal(**options, multiscale=True)
    np.testing.assert_allclose(averaged, np.mean(single, 0), atol=1e-6)
    assert np.abs(averaged - single[1]).max() > 0.01

    png.write(tmp_path / "part.png", read(mosaic_path)[:128, :160])
    options |= {"input": tmp_path / "part.png", "output": tmp_path / "masks"}
    options["threshold"] = threshold
    run(model, **options, multiscale=True)
    np.testing.assert_array_equal(
        read(tmp_path / "masks" / "part.ome.tif") > 0, averaged >= threshold
    )
    with pytest.raises(UserError, match="a prediction with multiscale True instead of False"):
        run(model, **options)


def test_senseless_options_and_images_are_refused(model):
    for options, sentence in (
        ({"threshold": 2}, "--threshold is 2"),
        ({"scale": 99}, "--scale is 99"),
        ({"white": 0}, "--white is 0"),
    ):
        with pytest.raises(UserError, match=sentence):
            ImagePredictor(model, **options)
    with pytest.raises(UserError, match=r"is 8x64 \(height x width\): the model needs at least"):
        ImagePredictor(model)(np.zeros((8, 64), np.uint8))
