"""Prediction in memory gives the masks that the command writes."""

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.imaging import png
from eal_icnet_jax.inference import image_prediction
from eal_icnet_jax.inference.image_prediction import ImagePredictor
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
    monkeypatch.setattr(image_prediction, "MAX_WHOLE_PIXELS", 300 * 300)
    predicted = ImagePredictor(model, threshold=threshold)(mosaic_path)
    run(model, input=mosaic_path, output=tmp_path, threshold=threshold)
    assert list(predicted.masks) == ["1"]  # its output has no name
    np.testing.assert_array_equal(predicted.masks["1"], read(tmp_path / "die.ome.tif") > 0)


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
